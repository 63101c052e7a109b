"""What a preparation is told: scales, blocks, labels. Plain values: they travel to workers and into JSON."""

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.lidar.classes import IGNORE, LABELS
from projects.lidar.preparation.blocks import TOLERANCE

LABEL_SOURCES = ('auto', 'asprs', 'lod3')
UNKNOWN = ('refuse', 'ignore')
SAMPLING = ('fps', 'random')


@dataclass(frozen=True)
class Scale:
    """One scale.

    Attributes:
        size: Side of a patch, metres.
        overlap: Share of the size that neighbouring patches have in common, 0 to below 1.
        points: Head of every patch that is in farthest-point order.
        neighbours: Of the geometric features.
        buffer: Metres of neighbouring tiles that take part in them; 0 for none.
        sor: ``{'k', 'std'}`` of the statistical outlier flags, or None.
        ror: ``{'radius', 'neighbours'}`` of the radius outlier flags, or None.
    """

    size: float
    overlap: float
    points: int
    neighbours: int
    buffer: float
    sor: Mapping[str, float] | None = None
    ror: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Settings:
    """All of a preparation that its result depends on.

    Attributes:
        scales: By key; a key is the size in metres.
        block_size: Least side of a block in metres; None for one block, the whole tile.
        labels: ``asprs`` from the classification, ``lod3`` from the extra dimension of that name (0 to 29, 255
            unknown), ``auto`` the second where there is one.
        mapping: Codes that are mapped otherwise than classes.ASPRS does, pairs of code and label.
        unknown: What happens to points of a code without a mapping: the tile is refused, or they have no label.
        min_points: Patches with fewer are left out.
        sampling: ``fps``, or ``random``: the whole list shuffled.
        voxel: Side in metres of voxels of which patches list one point each; None for all points.
        use_rgb: Keep the colours; likewise ``use_infrared``.
        compute_ndvi: Show networks the vegetation index.
        save_stats: Statistics in every record and in the manifest; likewise ``save_metadata``, of the source file.
        quantum: Metres a step of stored coordinates.
        seed: Of the shuffles.
        export: How patch files are written, as a seed's YAML says it; empty for none.
        training: What a seed's YAML says of the training; only kept.
    """

    scales: Mapping[str, Scale]
    block_size: float | None = 250.0
    labels: str = 'auto'
    mapping: tuple[tuple[int, int], ...] = ()
    unknown: str = 'refuse'
    min_points: int = 100
    sampling: str = 'fps'
    voxel: float | None = None
    use_rgb: bool = True
    use_infrared: bool = True
    compute_ndvi: bool = True
    save_stats: bool = True
    save_metadata: bool = True
    quantum: float = 0.001
    seed: int = 0
    export: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @property
    def buffer(self) -> float:
        """The largest buffer of all scales, metres."""
        return max(scale.buffer for scale in self.scales.values())

    def chosen(self, keys: list[str] | None, where: str) -> 'Settings':
        """Return the settings with some scales only."""
        missing = [key for key in keys or () if key not in self.scales]
        if missing:
            raise UserError(f'{where}: --scales: expected some of {", ".join(self.scales)}, found {missing[0]}')
        return self if not keys else replace(self, scales={key: self.scales[key] for key in self.scales if key in keys})


def read_scales(path: str | Path) -> Settings:
    """Read ``patch_scales`` and ``block_size`` of a config without running it: literals and ``dict(...)`` only.

    Raises:
        UserError: The file is missing, does more than name values, or a value is wrong.
    """
    path = Path(path)
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'), str(path))
    except OSError as error:
        raise UserError(f'{path}: expected a config of scales, found {error.strerror}') from error
    except (SyntaxError, ValueError) as error:
        raise UserError(f'{path}: expected a config of scales, found {error}') from error
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise UserError(f'{path}:{node.lineno}: expected NAME = VALUE, found {ast.unparse(node).splitlines()[0]}')
        values[node.targets[0].id] = _literal(node.value, path)
    unknown = sorted(set(values) - {'patch_scales', 'block_size'})
    if unknown:
        raise UserError(f'{path}: {unknown[0]}: unknown key; expected patch_scales and block_size')
    if not isinstance(values.get('patch_scales'), dict) or not values['patch_scales']:
        raise UserError(f'{path}: patch_scales: expected a dict of scales, found {values.get("patch_scales")!r}')
    scales = {str(key): make_scale(value, f'{path}: patch_scales.{key}')
              for key, value in values['patch_scales'].items()}
    for key, scale in scales.items():
        if key != scale_key(scale.size):
            raise UserError(f'{path}: patch_scales.{key}: expected the key {scale_key(scale.size)!r} for '
                            f'size {scale.size:g}')
    block_size = values.get('block_size', 250.0)
    if block_size is not None:
        check_number(block_size, f'{path}: block_size', low=1.0)
    return check_settings(Settings(scales, None if block_size is None else float(block_size)), str(path))


def make_scale(values: Any, where: str) -> Scale:
    """Check the values of one scale.

    Raises:
        UserError: A key is unknown or missing, or a value out of its range.
    """
    if not isinstance(values, dict):
        raise UserError(f'{where}: expected a dict, found {values!r}')
    known = {'size', 'overlap', 'points', 'neighbours', 'buffer', 'sor', 'ror'}
    for key in sorted(set(values) - known):
        raise UserError(f'{where}.{key}: unknown key; expected {", ".join(sorted(known))}')
    for key in sorted(known - {'sor', 'ror'} - set(values)):
        raise UserError(f'{where}.{key}: expected a value, found none')
    check_number(values['size'], f'{where}.size', low=1.0)
    check_number(values['overlap'], f'{where}.overlap', low=0.0, high=0.9)
    check_number(values['points'], f'{where}.points', low=1, whole=True)
    check_number(values['neighbours'], f'{where}.neighbours', low=4, high=1000, whole=True)
    check_number(values['buffer'], f'{where}.buffer', low=0.0)
    for name, keys in (('sor', ('k', 'std')), ('ror', ('radius', 'neighbours'))):
        part = values.get(name)
        if part is None:
            continue
        if not isinstance(part, dict) or set(part) != set(keys):
            raise UserError(f'{where}.{name}: expected None or a dict of {" and ".join(keys)}, found {part!r}')
        for key in keys:
            check_number(part[key], f'{where}.{name}.{key}', low=1e-3, whole=key in ('k', 'neighbours'))
    if values.get('sor') and values['sor']['k'] > values['neighbours']:
        raise UserError(f'{where}.sor.k: expected at most neighbours ({values["neighbours"]}), '
                        f'found {values["sor"]["k"]}')
    return Scale(float(values['size']), float(values['overlap']), values['points'], values['neighbours'],
                 float(values['buffer']), values.get('sor'), values.get('ror'))


def check_settings(settings: Settings, where: str) -> Settings:
    """Refuse words that mean nothing; return the settings.

    Raises:
        UserError: One of them does.
    """
    for name, chosen, allowed in (('labels', settings.labels, LABEL_SOURCES), ('unknown', settings.unknown, UNKNOWN),
                                  ('sampling', settings.sampling, SAMPLING)):
        if chosen not in allowed:
            raise UserError(f'{where}: {name}: expected one of {", ".join(allowed)}, found {chosen!r}')
    return settings


def small_blocks(settings: Settings) -> str | None:
    """Return a warning where blocks are smaller than patches, which are cut inside them; None where they are not."""
    size = settings.block_size
    cut = [key for key, scale in settings.scales.items() if size is not None and size < scale.size * (1 - TOLERANCE)]
    if not cut:
        return None
    return f'blocks of {size:g} m: patches of {", ".join(cut)} m are cut inside blocks and become as small as these'


def scale_key(size: float) -> str:
    """Return how a scale of this size is called: '50', '12.5'."""
    return f'{size:g}'


def read_mapping(pairs: list[str]) -> tuple[tuple[int, int], ...]:
    """Read ``CODE=CLASS`` arguments; CLASS is a name of classes.LABELS or ``ignore``.

    Raises:
        UserError: A code is no number in 0..255, or there is no such class.
    """
    found: dict[int, int] = {}
    for pair in pairs:
        code, sign, name = pair.partition('=')
        if not sign or not code.isdigit() or int(code) > 255:
            raise UserError(f'--map: expected CODE=CLASS with a code of 0 to 255, found {pair!r}')
        if name != 'ignore' and name not in LABELS:
            raise UserError(f'--map {code}: expected ignore or one of {", ".join(LABELS)}, found {name!r}')
        label = IGNORE if name == 'ignore' else LABELS.index(name)
        if found.setdefault(int(code), label) != label:
            raise UserError(f'--map {code}: expected one class, found several')
    return tuple(sorted(found.items()))


def check_number(value: Any, where: str, low: float, high: float = float('inf'), whole: bool = False) -> None:
    """Refuse what is no number within its range.

    Raises:
        UserError: It is not.
    """
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        above = f' from {low:g}' + (f' to {high:g}' if high < float('inf') else '')
        raise UserError(f'{where}: expected a {"whole " if whole else ""}number{above}, found {value!r}')


def _literal(node: ast.expr, path: Path) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {word.arg: _literal(word.value, path) for word in node.keywords if word.arg}
    if isinstance(node, ast.Dict):
        return {_literal(key, path): _literal(value, path) for key, value in zip(node.keys, node.values) if key}
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise UserError(f'{path}:{node.lineno}: expected a plain value, found {ast.unparse(node)}') from error
