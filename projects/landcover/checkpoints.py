"""Published FTUNetFormer checkpoints, converted to this project's model.

Upstream names are those of GeoSeg's ``FTUNetFormer``; only its published parameter names are used here, no code.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from mmseg.models.backbones import SwinTransformer
from torch import Tensor, nn

from projects.engine.backbones import rename_swin
from projects.engine.checkpoints import compare_keys, read_checkpoint
from projects.engine.errors import UserError
from projects.engine.files import atomic_path, sha256_of
from projects.landcover.models import FTUNetFormerHead
from projects.landcover.taxonomy import get_taxonomy

HEAD_RENAMES = (
    (re.compile(r'^segmentation_head\.0\.'), 'seg_conv.'),
    (re.compile(r'^segmentation_head\.2\.0\.'), 'conv_seg.'),
)


def convert_geoseg(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Convert a published FTUNetFormer to an ``EncoderDecoder`` of ``SwinTransformer`` and ``FTUNetFormerHead``.

    Widths, depths, heads, windows and the number of classes are read from the tensors; the result fits such a model
    completely, with nothing missing and nothing left over.

    Args:
        state_dict: Tensors by published key (``backbone.layers...``, ``decoder...``), with or without the prefix
            ``net.``, or a whole Lightning checkpoint (``{'state_dict': ...}``).

    Returns:
        Tensors by key of this project's model (``backbone.stages...``, ``decode_head...``).

    Raises:
        UserError: A key is unknown, missing or of another shape; the first few are named.
    """
    tensors = state_dict.get('state_dict', state_dict)
    tensors = {key.removeprefix('net.'): value for key, value in tensors.items()}
    backbone = {key.removeprefix('backbone.'): value for key, value in tensors.items() if key.startswith('backbone.')}
    decoder = {key.removeprefix('decoder.'): value for key, value in tensors.items() if key.startswith('decoder.')}
    foreign = [key for key in tensors if not key.startswith(('backbone.', 'decoder.'))]
    if not backbone or not decoder:
        raise UserError('not a GeoSeg FTUNetFormer: expected keys backbone.* and decoder.*, '
                        f'found {_first(list(tensors))}')
    if foreign:
        raise UserError(f'not a GeoSeg FTUNetFormer: {len(foreign)} unknown keys: {_first(foreign)}')

    converted = {f'backbone.{key}': value for key, value in rename_swin(backbone).items()}
    for key, value in decoder.items():
        for pattern, replacement in HEAD_RENAMES:
            key = pattern.sub(replacement, key)
        converted[f'decode_head.{key}'] = value

    report = compare_keys(_model_of(converted), converted)
    for problem, keys in (('missing', report.missing), ('unknown', report.unexpected),
                          ('wrongly shaped', report.reshaped)):
        if keys:
            raise UserError(f'not a GeoSeg FTUNetFormer: {len(keys)} {problem} keys (converted names): {_first(keys)}')
    return converted


def convert_file(source: str | Path, target: str | Path, taxonomy: str | None = None, overwrite: bool = False) -> int:
    """Convert a published checkpoint file to an MMEngine checkpoint.

    Args:
        source: The published file; a Lightning checkpoint or a bare state dict. Nothing in it is executed.
        target: The file to write: ``{'meta': ..., 'state_dict': ...}``.
        taxonomy: Name of the taxonomy that the checkpoint's classes follow, stored in the meta and compared whenever
            the checkpoint is loaded. Without it nobody checks the order of the classes.
        overwrite: Replace an existing ``target``.

    Returns:
        The number of converted tensors.

    Raises:
        UserError: ``target`` exists, ``source`` cannot be read or is another network, or the number of classes
            differs from the taxonomy's.
    """
    source, target = Path(source), Path(target)
    if target.exists() and not overwrite:
        raise UserError(f'{target}: exists already (--overwrite replaces it)')
    published = read_checkpoint(source)
    try:
        state_dict = convert_geoseg(published['state_dict'])
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    meta = {
        'converted_from': source.name,
        'converted_sha256': sha256_of(source),
        'layout': 'geoseg-ftunetformer',
        'time': datetime.now(UTC).isoformat(timespec='seconds'),
    }
    if taxonomy is not None:
        metainfo = get_taxonomy(taxonomy).metainfo
        found = state_dict['decode_head.conv_seg.weight'].shape[0]
        if found != len(metainfo['classes']):
            raise UserError(f'{source}: taxonomy {taxonomy} has {len(metainfo["classes"])} classes, found {found}')
        meta['dataset_meta'] = metainfo
    with atomic_path(target) as temporary:
        torch.save({'meta': meta, 'state_dict': state_dict}, temporary)
    return len(state_dict)


def _model_of(converted: Mapping[str, Tensor]) -> nn.Module:
    """Build backbone and head with the widths, depths and heads that the tensors show."""
    stages = 1 + max((int(key.split('.')[2]) for key in converted if key.startswith('backbone.stages.')), default=-1)
    depths, heads, windows = [], [], []
    for stage in range(stages):
        prefix = f'backbone.stages.{stage}.blocks.'
        depths.append(1 + max((int(key.split('.')[4]) for key in converted if key.startswith(prefix)), default=-1))
        rows, count = _shape(converted, f'{prefix}0.attn.w_msa.relative_position_bias_table', 2)
        heads.append(count)
        windows.append((int(rows ** 0.5) + 1) // 2)
    rows, head_heads = _shape(converted, 'decode_head.b4.attn.relative_position_bias_table', 2)
    embed_dims, in_channels, patch_size, _ = _shape(converted, 'backbone.patch_embed.projection.weight', 4)
    num_classes, channels, _, _ = _shape(converted, 'decode_head.conv_seg.weight', 4)

    model = nn.Module()
    model.backbone = SwinTransformer(
        in_channels=in_channels, embed_dims=embed_dims, patch_size=patch_size, window_size=windows[0], depths=depths,
        num_heads=heads, strides=(patch_size, *[2] * (stages - 1)), out_indices=tuple(range(stages)))
    model.decode_head = FTUNetFormerHead(
        [embed_dims * 2**stage for stage in range(stages)], channels, num_classes=num_classes, num_heads=head_heads,
        window_size=(int(rows ** 0.5) + 1) // 2)
    return model


def _shape(converted: Mapping[str, Tensor], key: str, axes: int) -> tuple[int, ...]:
    value = converted.get(key)
    if not isinstance(value, Tensor) or value.ndim != axes:
        found = tuple(value.shape) if isinstance(value, Tensor) else 'none'
        raise UserError(f'not a GeoSeg FTUNetFormer: expected a tensor of {axes} axes at {key} (converted name), '
                        f'found {found}')
    return tuple(value.shape)


def _first(keys: list[str] | tuple[str, ...], count: int = 4) -> str:
    return ', '.join(keys[:count]) + (', …' if len(keys) > count else '')
