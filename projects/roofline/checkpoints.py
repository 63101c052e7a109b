"""Published RoofMapNet checkpoints, converted to this project's model; only their parameter names are used, no code."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from projects.engine.errors import UserError

RULES = tuple((re.compile(pattern), replacement) for pattern, replacement in (
    (r'^detection\.backbone\.backbone\.score\.(\d+)\.heads\.', r'map_head.heads.\1.'),
    (r'^detection\.backbone\.backbone\.fc_\.(\d+)\.', r'backbone.fc_.\1.'),
    (r'^detection\.backbone\.backbone\.', 'backbone.'),
    (r'^detection\.backbone\.(conv_jmap|latlayer)\.', r'map_head.calibrate.\1.'),
    (r'^detection\.(fc1|fc2)\.', r'line_head.\1.'),
    (r'^detection\.fc_line\.', 'line_head.attention.fc.'),
))
LAYERS = re.compile(r'^detection\.(conv|bn)([123])(?:_line)?\.')  # conv1_line, bn1, …: convolution, norm, ReLU
STEPS = 'detection.lambda_1'  # (64, 1) places along a line: evenly spaced in every published file
WITHOUT_USE = ('detection.backbone.gaussalpha', 'detection.backbone.gaussbeta')  # no output depends on them


def convert_roofmapnet(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert a published RoofMapNet (CVEO) to a :class:`~projects.roofline.models.RoofMapNet`.

    The published file has 756 entries; the two numbers of :data:`WITHOUT_USE` are left out.

    Args:
        state_dict: Tensors by published key (``detection.backbone...``), with or without the prefix ``module.``, or a
            whole checkpoint (``{'model_state_dict': ...}`` or ``{'state_dict': ...}``).

    Returns:
        Tensors by key of this project's model; they fit it with nothing missing and nothing left over.

    Raises:
        UserError: A key is unknown.
    """
    for key in ('model_state_dict', 'state_dict'):
        state_dict = state_dict.get(key, state_dict)
    converted = {}
    for key, value in state_dict.items():
        name = key.removeprefix('module.')
        if name == STEPS:
            converted['line_head.steps'] = value[:, 0]
        elif name not in WITHOUT_USE:
            converted[_converted(name)] = value
    return converted


def _converted(key: str) -> str:
    layer = LAYERS.match(key)
    if layer:
        place = 3 * (int(layer[2]) - 1) + (layer[1] == 'bn')
        return f'line_head.attention.convs.{place}.{key[layer.end():]}'
    for pattern, replacement in RULES:
        if pattern.match(key):
            return pattern.sub(replacement, key)
    raise UserError(f'not a published RoofMapNet: unknown key {key}')
