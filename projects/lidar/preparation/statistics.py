"""What a prepared tile, and a store, hold in numbers."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from projects.lidar.classes import IGNORE, LABELS
from projects.lidar.preparation.outliers import EXEMPT, ROR, SOR


def tile_statistics(arrays: Mapping[str, np.ndarray], scales: Iterable[str], left_out: Mapping[str, int],
                    area: float) -> dict[str, Any]:
    """Return the statistics of one tile.

    Args:
        arrays: Of the store.
        scales: Their keys.
        left_out: Patches with too few points, by scale.
        area: Of the tile's box in m².

    Outliers are told by classification code, because a filter that removes façades shows there: ``removed`` are left
    out of patches, ``exempt`` were flagged and stay.
    """
    codes = arrays['classification']
    height = arrays['height'].astype(np.float32)
    found = {
        'points': len(codes), 'points_per_m2': round(len(codes) / max(area, 1e-6), 3),
        'classification': _counts(codes), 'labels': {name_of(int(label)): count for label, count
                                                     in _counts(arrays['label']).items()},
        'height': {'low': float(height.min()), 'mean': round(float(height.mean()), 3), 'high': float(height.max())},
        'returns': _counts(arrays['number_of_returns']),
        'intensity': {'mean': round(float(arrays['intensity'].mean()), 1), 'high': int(arrays['intensity'].max())},
        'scales': {}}
    for key in scales:
        flags = arrays[f'{key}/outlier']
        removed, exempt = is_removed(flags), (flags & EXEMPT) > 0
        sizes = np.diff(arrays[f'{key}/patch_offset'])
        found['scales'][key] = {
            'patches': len(sizes), 'patches_left_out': left_out[key], 'listed_points': int(sizes.sum()),
            'points_per_patch': [int(sizes.min()), round(float(sizes.mean()), 1), int(sizes.max())] if len(sizes)
            else [0, 0, 0],
            'outliers_removed': _counts(codes[removed]), 'outliers_exempt': _counts(codes[exempt]),
            'incomplete': int(np.count_nonzero(arrays[f'{key}/incomplete']))}
    return found


def store_statistics(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums over the statistics of tiles."""
    total: dict[str, Any] = {'tiles': 0, 'points': 0, 'classification': {}, 'labels': {}, 'scales': {}}
    for part in parts:
        total['tiles'] += 1
        total['points'] += part['points']
        for name in ('classification', 'labels'):
            _add(total[name], part[name])
        for key, one in part['scales'].items():
            scale = total['scales'].setdefault(key, {
                'patches': 0, 'patches_left_out': 0, 'listed_points': 0, 'outliers_removed': {}, 'outliers_exempt': {},
                'incomplete': 0})
            for name, value in scale.items():
                if isinstance(value, dict):
                    _add(value, one[name])
                else:
                    scale[name] += one[name]
    return total


def is_removed(flags: np.ndarray) -> np.ndarray:
    """Return which points are outliers that patches leave out: flagged and not exempt."""
    return ((flags & (SOR | ROR)) > 0) & ((flags & EXEMPT) == 0)


def name_of(label: int) -> str:
    """Return a label's name."""
    return 'ignore' if label == IGNORE else LABELS[label]


def _counts(values: np.ndarray) -> dict[str, int]:
    counts = np.bincount(values, minlength=1)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def _add(total: dict[str, int], more: Mapping[Any, int]) -> None:
    for key, count in more.items():
        total[str(key)] = total.get(str(key), 0) + count
