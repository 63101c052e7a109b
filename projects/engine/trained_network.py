"""The network that a training is about, whatever is wrapped around it."""

from torch import nn


def trained_network(model: nn.Module) -> nn.Module:
    """Return the module whose parameters are trained and whose keys a checkpoint has.

    A wrapper for distribution has it as ``module``; a model that is more than its network (a student with its teacher)
    names it as ``trained_network``.
    """
    model = getattr(model, 'module', model)
    return getattr(model, 'trained_network', model)
