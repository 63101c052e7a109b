"""Score the images of a split and write what hard sampling needs: what ``tools/landcover/score_samples.py`` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from projects.engine.config import load_config
from projects.engine.consistency import config_metainfo
from projects.engine.errors import UserError
from projects.engine.options import read_value
from projects.multistage.difficulty import Difficulty, write_analysis, write_difficulty, write_weights
from projects.multistage.difficulty_rules import build_rule
from projects.multistage.difficulty_tables import tables
from projects.multistage.scoring import score_split


def score_samples(config: str | Path, checkpoint: str | Path, out: str | Path, *, split: str = 'train',
                  rule: Sequence[str] | Mapping[str, Any] | None = None, weights: str | Path | None = None,
                  analysis: str | Path | None = None, device: str | None = None,
                  cfg_options: dict[str, Any] | None = None) -> str:
    """Score a checkpoint on every image of a split and write the difficulty file.

    Args:
        config: Path of a Python config.
        checkpoint: Weights.
        out: The difficulty file.
        split: ``train``, ``val`` or ``test``.
        rule: A rule's config, or its name and ``KEY=VALUE`` texts. Default: that of the config's sampler, else the
            seed's.
        weights: Also write the weights here (see :func:`~projects.multistage.difficulty.write_weights`).
        analysis: Also write the seed's analysis here.
        device: Default: CUDA where it works, else the CPU.
        cfg_options: Dotted paths and their values.

    Returns:
        The seed's two tables.

    Raises:
        UserError: Whatever the arguments or the data have wrong.
    """
    paths = [Path(path).resolve() for path in (out, weights, analysis) if path is not None]
    if len(set(paths)) < len(paths):
        raise UserError('--out, --weights and --analysis: expected different files, found one twice')
    cfg = load_config(config, cfg_options)  # before the scoring, which takes long: a wrong rule is told at once
    built = build_rule(_rule(cfg, rule))
    built(Difficulty(tuple((config_metainfo(cfg) or {}).get('classes') or ()), {}))
    difficulty = score_split(config, checkpoint, split, device=device, cfg_options=cfg_options)
    found = built(difficulty)
    write_difficulty(out, difficulty)
    if weights is not None:
        write_weights(weights, found)
    if analysis is not None:
        write_analysis(analysis, difficulty, found)
    return tables(difficulty, found)


def _rule(config: Config, rule: Sequence[str] | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if rule is None:
        sampler = (config.get('train_dataloader') or {}).get('sampler') or {}
        return sampler.get('rule') if sampler.get('type') == 'HardSampleSampler' else None
    if isinstance(rule, Mapping):
        return rule
    name, *arguments = rule
    if '=' in name:
        raise UserError(f'--rule: expected the name of a rule first, found {name!r}')
    found: dict[str, Any] = {'type': name}
    for argument in arguments:
        key, equals, value = argument.partition('=')
        if not (key and equals):
            raise UserError(f'--rule: expected KEY=VALUE, found {argument!r}')
        try:
            found[key] = read_value(value)
        except ValueError as error:
            raise UserError(f'--rule: {key}: {error} in {value!r}') from error
    return found
