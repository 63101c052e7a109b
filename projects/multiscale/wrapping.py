"""How an ensemble enters a test: around the config's model, with the hook that tells how far its members agree."""

from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config

from projects.multiscale.ensemble_options import EnsembleOptions, resolve_ensemble


def wrapper_of(options: EnsembleOptions, checkpoint: str | Path) -> Callable[[Config], None] | None:
    """Return what puts a config's model into the ensemble that was asked for; None when none was.

    Args:
        options: What the user asked for.
        checkpoint: Weights of the config's own network.
    """
    if not options.wanted:
        return None

    def wrap(config: Config) -> None:
        ensemble = resolve_ensemble(options, config, checkpoint)
        config.model = dict(ensemble.settings, module=config.model, members=list(ensemble.members))
        config.custom_hooks = [*(config.get('custom_hooks') or ()),
                               dict(type='EnsembleAgreementHook', notes=list(ensemble.notes))]

    return wrap
