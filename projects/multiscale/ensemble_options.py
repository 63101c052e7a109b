"""The one way in which tools are told an ensemble: --tta, --also, --scales, --flips, --merge, --ensemble."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from projects.engine.checkpoints import check_classes, read_checkpoint
from projects.engine.config import load_config
from projects.engine.consistency import check_consistency, config_metainfo
from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.multiscale.ensemble_file import read_ensemble
from projects.multiscale.views import FLIPS, MERGES, check_views


@dataclass(frozen=True)
class EnsembleOptions:
    """What the user asked for; any of it switches the config's ``tta_model`` on, and overrides a part of it.

    Attributes:
        tta: the config's views, unchanged.
        also: further networks, ``CHECKPOINT`` (of the same config) or ``CONFIG:CHECKPOINT``.
        scales, flips, merge: see :class:`projects.multiscale.ensemble.EnsembleTTA`.
        file: an ``ensemble.json``: weights, temperatures, and the views where they are not given here.
    """

    tta: bool = False
    also: tuple[str, ...] = ()
    scales: tuple[float, ...] | None = None
    flips: tuple[str, ...] | None = None
    merge: str | None = None
    file: str | Path | None = None

    @property
    def wanted(self) -> bool:
        """Whether anything was asked for."""
        return self.tta or any((self.also, self.scales is not None, self.flips is not None, self.merge, self.file))


@dataclass(frozen=True)
class Ensemble:
    """An ensemble that is ready to be built.

    Attributes:
        settings: arguments of ``EnsembleTTA`` without ``module`` and ``members``.
        members: the further networks, ``dict(model=CONFIG, checkpoint=PATH)`` each.
        checkpoints: all checkpoints, the first one first.
        notes: warnings.
    """

    settings: dict[str, Any]
    members: tuple[dict[str, Any], ...]
    checkpoints: tuple[Path, ...]
    notes: tuple[str, ...]


def add_ensemble_options(parser: argparse.ArgumentParser, fitted: bool = True) -> None:
    """Add the options; :func:`ensemble_options` reads them. ``fitted=False`` leaves out --tta and --ensemble."""
    parser.set_defaults(tta=False, ensemble=None)
    if fitted:
        parser.add_argument('--tta', action='store_true', help="the config's test-time views (tta_model)")
        parser.add_argument('--ensemble', metavar='FILE.json',
                            help='weights, temperatures and views that tools/fit_ensemble.py wrote')
    parser.add_argument('--also', nargs='+', default=[], metavar='MEMBER',
                        help='further networks: CHECKPOINT (same config) or CONFIG:CHECKPOINT')
    parser.add_argument('--scales', nargs='+', type=float, metavar='S', help="instead of the config's scales")
    parser.add_argument('--flips', nargs='+', choices=tuple(FLIPS), help="instead of the config's flips")
    parser.add_argument('--merge', choices=MERGES, help="instead of the config's merge")


def ensemble_options(args: argparse.Namespace) -> EnsembleOptions:
    """Return what the parsed options ask for."""
    return EnsembleOptions(
        args.tta, tuple(args.also), None if args.scales is None else tuple(args.scales),
        None if args.flips is None else tuple(args.flips), args.merge, args.ensemble)


def parse_member(text: str) -> tuple[Path | None, Path]:
    """Return config (None: the first network's) and checkpoint of ``CHECKPOINT`` or ``CONFIG:CHECKPOINT``."""
    config, colon, checkpoint = text.rpartition('.py:')
    return (Path(f'{config}.py'), Path(checkpoint)) if colon else (None, Path(text))


def resolve_ensemble(options: EnsembleOptions, cfg: Config, checkpoint: str | Path) -> Ensemble:
    """Turn options into an ensemble: views from the options, else the file, else the config's ``tta_model``.

    Args:
        options: What the user asked for.
        cfg: Config of the first network.
        checkpoint: Its weights.

    Raises:
        UserError: A file is missing; a member has other classes, bands or value range than the first network; the
            views are out of range; the ensemble file belongs to other checkpoints.
    """
    settings = dict(cfg.get('tta_model') or {'type': 'EnsembleTTA'})
    if settings.get('type') != 'EnsembleTTA':
        raise UserError(f'config {cfg.filename}: tta_model.type: expected EnsembleTTA, found {settings.get("type")!r}')
    members, notes = [], []
    checkpoints = [Path(checkpoint)]
    expected = config_metainfo(cfg) or read_checkpoint(checkpoint)['meta'].get('dataset_meta') or {}
    for text in options.also:
        config_path, path = parse_member(text)
        if not path.is_file():
            raise UserError(f'--also {text}: checkpoint {path}: no such file')
        config = cfg
        if config_path is not None:
            config = load_config(config_path)
            check_consistency(config)
            _check_same_input(cfg, config, config_path)
            check_classes(config_metainfo(config), expected, config_path)
        meta = read_checkpoint(path)['meta'].get('dataset_meta')
        check_classes(meta, expected, path)
        notes += _taxonomy_note(meta, expected, path)
        members.append(dict(model=config.model.to_dict(), checkpoint=str(path)))
        checkpoints.append(path)
    notes += _twice(checkpoints)
    if options.file is not None:
        fitted = read_ensemble(options.file)
        settings['weights'], settings['temperatures'] = fitted.of(checkpoints, options.file)
        settings.update(temperature=fitted.temperature, merge=fitted.merge, scales=fitted.scales, flips=fitted.flips)
        asked = {key: getattr(options, key) for key in ('merge', 'scales', 'flips')}
        changed = [key for key, value in asked.items() if value is not None and value != settings[key]]
        if changed:
            notes.append(f'{options.file}: was fitted with other {" and ".join(changed)}: its temperatures may not '
                         'hold')
        if 'merge' in changed and options.merge == 'vote':
            settings['temperature'] = 1.0
    for key in ('scales', 'flips', 'merge'):
        if getattr(options, key) is not None:
            settings[key] = getattr(options, key)
            check_views(*(settings.get(name, default) for name, default in (
                ('scales', (1.0,)), ('flips', ('none',)), ('merge', 'prob'))), 'ensemble')
    return Ensemble(settings, tuple(members), tuple(checkpoints), tuple(notes))


def _check_same_input(first: Config, other: Config, path: Path) -> None:
    """Raise unless both networks see the same bands, scaled alike."""
    seen = [{key: reader.get(key) for key in ('bands', 'value_range')} for reader in (
        next(iter(config.get('test_pipeline') or ()), {}) for config in (first, other))]
    for key in ('bands', 'value_range'):
        values = [None if one[key] is None else tuple(one[key]) for one in seen]
        if values[0] != values[1]:
            raise UserError(f'--also: config {path}: {key}: expected {values[0]}, as the first network, '
                            f'found {values[1]}')


def _taxonomy_note(meta: dict | None, expected: dict, path: Path) -> list[str]:
    found, wanted = (meta or {}).get('taxonomy_hash'), expected.get('taxonomy_hash')
    if found and wanted and found != wanted:
        return [f'{path}: its classes have the same names, but its taxonomy {(meta or {}).get("taxonomy")!r} is not '
                f'{expected.get("taxonomy")!r} (hash {found[:12]}…, not {wanted[:12]}…)']
    return []


def _twice(checkpoints: Sequence[Path]) -> list[str]:
    seen: dict[str, Path] = {}
    notes = []
    for path in checkpoints:
        if not path.is_file():
            raise UserError(f'checkpoint {path}: no such file')
        digest = sha256_of(path)
        if digest in seen:
            notes.append(f'{path}: the same checkpoint as {seen[digest]}: it counts twice')
        seen.setdefault(digest, path)
    return notes
