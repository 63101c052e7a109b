"""Which part of a backbone starts from a published network, where the backbone is a wrapper around another."""

from torch import nn


def pretrained_part(backbone: nn.Module) -> tuple[str, nn.Module]:
    """Return the backbone that a wrapper (of a wrapper …) is around, and its place in it.

    A wrapper says by its class attribute ``pretrained_part`` which of its children is the backbone that it wraps;
    everything else in it starts from scratch. Any other backbone is that part itself.

    Returns:
        The prefix of the part's keys, ``''`` or for example ``'backbone.'``, and the part.
    """
    prefix = ''
    while name := getattr(backbone, 'pretrained_part', None):
        prefix, backbone = f'{prefix}{name}.', getattr(backbone, name)
    return prefix, backbone
