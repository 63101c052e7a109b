"""How often the networks of an ensemble agree: where they hardly differ, averaging them gains little."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS

HARDLY = 0.01
"""Members that give different classes in a smaller share of the pixels than this are said to hardly differ."""


def agreement_note(agreed: int, compared: int, members: int) -> str | None:
    """Return the warning about members that hardly differ; None when they differ enough, or were not compared.

    Args:
        agreed: Pixels in which all members gave one class.
        compared: Pixels that were compared.
        members: Number of networks.
    """
    if members < 2 or not compared or compared - agreed >= HARDLY * compared:
        return None
    return (f'the {members} checkpoints agree in {100 * agreed / compared:.1f} % of the pixels: '
            'the ensemble can gain little')


@HOOKS.register_module()
class EnsembleAgreementHook(Hook):
    """Say before a test what is odd about the members, and after it how often they agreed.

    Args:
        notes: Warnings that were found before the networks were built.
    """

    priority = 'LOW'

    def __init__(self, notes: Sequence[str] = ()) -> None:
        self.notes = tuple(notes)

    def before_test_epoch(self, runner: Any) -> None:
        """Log the notes, and count anew."""
        for note in self.notes:
            print_log(note, 'current', logging.WARNING)
        _ensemble(runner).take_agreement()

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Log the share of pixels in which all members agreed; an image that ranks repeat counts twice."""
        ensemble = _ensemble(runner)
        device = next(ensemble.parameters()).device
        counts = torch.tensor(ensemble.take_agreement(), dtype=torch.int64, device=device)
        all_reduce(counts)
        agreed, compared = counts.tolist()
        if not compared:
            return
        print_log(f'the members agree in {100 * agreed / compared:.2f} % of the pixels', 'current')
        note = agreement_note(agreed, compared, len(ensemble.members))
        if note:
            print_log(note, 'current', logging.WARNING)


def _ensemble(runner: Any) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
