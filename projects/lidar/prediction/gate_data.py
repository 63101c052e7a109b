"""What a gate is fitted on: labelled points of a split that all scales have predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.lidar.classes import BUILDING_PARTS, LOD3
from projects.lidar.decision import decide
from projects.lidar.prediction.answers import tile_gate_features
from projects.lidar.prediction.gate import Gate, write_gate
from projects.lidar.prediction.gate_fit import fit_gate, label_probabilities, labelled, negative_log_likelihood
from projects.lidar.prediction.merging import merge_scales
from projects.lidar.prediction.streaming import PredictPatches, TileStream
from projects.lidar.store import SPLIT_NAMES, Store, Tile, open_store

POINTS = 500_000  # of each half
HALF = 2  # every second block is held out


@dataclass(frozen=True)
class GatePoints:
    """Points of one or more tiles.

    Attributes:
        features: (n, F), see :func:`projects.lidar.prediction.gate.gate_features`.
        likelihood: (S, n) float32: the probability that each scale gives the label.
        group: (n,) int64: the block that a point lies in, counted over all tiles.
    """

    features: np.ndarray
    likelihood: np.ndarray
    group: np.ndarray

    def half(self, number: int, points: int, rng: np.random.Generator) -> 'GatePoints':
        """Return the points of every second block, ``number`` 0 or 1, ``points`` of them at most."""
        rows = np.flatnonzero(self.group % HALF == number)
        if len(rows) > points:
            rows = rng.choice(rows, points, replace=False)
        return GatePoints(self.features[rows], self.likelihood[:, rows], self.group[rows])


@dataclass(frozen=True)
class GateFit:
    """A gate and what it is worth: negative log-likelihood of the mean of the scales, of each, and of the gate.

    The figures of both halves of the blocks: the gate was fitted on the first and has not seen the second.
    """

    gate: Gate
    points: tuple[int, int]
    single: tuple[tuple[float, ...], tuple[float, ...]]
    mean: tuple[float, float]
    gated: tuple[float, float]


def gate_points(store: Store, scales: Sequence[str], predict: PredictPatches, points: Mapping[str, int], split: str,
                batch: int = 2) -> GatePoints:
    """Predict the blocks of a split at all scales, and keep what the fit needs of their labelled points.

    Raises:
        UserError: The store has no such scale or split, or nothing to fit on.
    """
    refs = {scale: store.patches(scale, split) for scale in scales}
    found, first = [], 0
    for name in sorted({ref.tile for own in refs.values() for ref in own}):
        tile = store.tiles[name]
        wanted = {scale: [ref.number for ref in own if ref.tile == name] for scale, own in refs.items()}
        part = _tile_points(tile, scales, predict, points, wanted, batch)
        if part is not None:
            found.append(GatePoints(part.features, part.likelihood, part.group + first))
        first += int(np.asarray(tile.array('block')).max(initial=0)) + 1
    if not found:
        raise UserError(f'{store.root}: split {split}: expected labelled points in patches of {", ".join(scales)}, '
                        'found none')
    groups = np.unique(np.concatenate([part.group for part in found]), return_inverse=True)[1]
    return GatePoints(np.concatenate([part.features for part in found]),
                      np.concatenate([part.likelihood for part in found], axis=1), groups)


def _tile_points(tile: Tile, scales: Sequence[str], predict: PredictPatches, points: Mapping[str, int],
                 wanted: Mapping[str, Sequence[int]], batch: int) -> GatePoints | None:
    stream = TileStream(tile, scales, predict, len(LOD3), points, batch, wanted)
    labels = np.asarray(tile.array('label'))
    building = np.zeros(tile.points, bool)
    rows, likelihood = [], []
    for strip in stream:
        own = stream.order[strip.start:strip.stop]
        says = decide(merge_scales(strip.probabilities, strip.covered))
        building[own] = np.isin(says, BUILDING_PARTS) & strip.covered.any(axis=0)
        use = np.flatnonzero(strip.covered.all(axis=0) & labelled(labels[own]))
        rows.append(own[use])
        likelihood.append(label_probabilities(strip.probabilities[:, use], labels[own[use]]))
    chosen = np.concatenate(rows).astype(np.int64)
    if not len(chosen):
        return None
    return GatePoints(tile_gate_features(tile, scales[0], building)(chosen), np.concatenate(likelihood, axis=1),
                      np.asarray(tile.array('block'))[chosen].astype(np.int64))


def evaluate_gate(data: GatePoints, scales: Sequence[str], points: int = POINTS, seed: int = 0) -> GateFit:
    """Fit on half of the blocks and score both halves; one block alone is divided at random."""
    rng = np.random.default_rng(seed)
    if data.group.max(initial=0) == 0:
        data = GatePoints(data.features, data.likelihood, rng.integers(0, HALF, len(data.group)))
    halves = [data.half(number, points, rng) for number in range(HALF)]
    gate = fit_gate(halves[0].features, halves[0].likelihood, scales)

    def both(score: Any) -> tuple[Any, Any]:
        return tuple(score(half) for half in halves)

    return GateFit(
        gate, tuple(len(half.group) for half in halves),
        both(lambda half: tuple(negative_log_likelihood(own[None]) for own in half.likelihood)),
        both(lambda half: negative_log_likelihood(half.likelihood)),
        both(lambda half: negative_log_likelihood(half.likelihood, gate(half.features))))


def fit_gate_file(config: str | Path, checkpoint: str | Path, root: str | Path, out: str | Path, *,
                  scales: Sequence[str] | None = None, split: str = 'val', points: int = POINTS, batch: int = 2,
                  device: str | None = None, amp: bool = False, cfg_options: dict[str, Any] | None = None) -> GateFit:
    """Fit a gate for a network on a split of a prepared store, and write its file.

    Args:
        config: Path of the config.
        checkpoint: Path of the weights.
        root: A store of tools/lidar/prepare.py with its splits.
        out: The file to write, see :mod:`projects.lidar.prediction.gate`.
        scales: Which scales to choose between. Default: those of the config's test data.
        split: Of the store. Not the one that the network was trained on: there all scales are sure.
        points: Of each half of the blocks, at most.
        batch, device, amp, cfg_options: As for :func:`projects.lidar.prediction.classify.classify`.

    Raises:
        UserError: Wrong options, config, checkpoint or store, or fewer than two scales.
    """
    for option, value in (('--batch', batch), ('--points', points)):
        if value < 1:
            raise UserError(f'{option}: expected at least 1, found {value}')
    store = open_store(root)
    if split not in SPLIT_NAMES:  # shows before the network is loaded
        raise UserError(f'--split: expected one of {", ".join(SPLIT_NAMES)}, found {split!r}')
    from projects.engine.inference import load_model
    from projects.lidar.prediction.network import NetworkPatches, points_seen, scales_of

    model, cfg = load_model(config, checkpoint, device=device, cfg_options=cfg_options)
    chosen = scales_of(cfg, scales)
    if len(chosen) < 2:
        raise UserError(f'a gate chooses between scales: expected two or more, found {", ".join(chosen)}; name them '
                        'with --scales')
    data = gate_points(store, tuple(chosen), NetworkPatches(model, cfg, amp), points_seen(cfg, chosen), split, batch)
    fit = evaluate_gate(data, tuple(chosen), points)
    write_gate(out, fit.gate, checkpoint={'file': Path(checkpoint).name, 'sha256': sha256_of(checkpoint)},
               store=Path(root).resolve().name, split=split, points=list(fit.points),
               negative_log_likelihood={'mean': list(fit.mean), 'gate': list(fit.gated)})
    return fit
