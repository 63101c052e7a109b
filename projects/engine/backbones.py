"""Backbones that start from a published file on disk. Nothing is ever downloaded.

The published layouts differ from mmseg's in names and, where a layer folds pixels into channels, in channel order.
A converter renames and reorders; :func:`load_backbone` then insists that every key has found its place.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from projects.engine.checkpoints import compare_keys, read_checkpoint
from projects.engine.errors import UserError
from projects.engine.pretrained_part import pretrained_part

StateDict = dict[str, Tensor]

SWIN_RENAMES = (
    (re.compile(r'^layers\.'), 'stages.'),
    (re.compile(r'^patch_embed\.proj\.'), 'patch_embed.projection.'),
    (re.compile(r'\.attn\.'), '.attn.w_msa.'),
    (re.compile(r'\.mlp\.fc1\.'), '.ffn.layers.0.0.'),
    (re.compile(r'\.mlp\.fc2\.'), '.ffn.layers.1.'),
)


def unfold_order(merging: Tensor) -> Tensor:
    """Reorder the last axis of a patch-merging weight from Swin's concatenation to ``nn.Unfold``'s order.

    Swin concatenates the four pixels of a 2x2 patch as (0,0), (1,0), (0,1), (1,1), each with all its C channels.
    ``nn.Unfold`` gives, channel by channel, (0,0), (0,1), (1,0), (1,1).

    Args:
        merging: Weight of the reduction (2C, 4C), or weight or bias of its norm (4C,).

    Returns:
        A tensor of the same shape.
    """
    blocks = merging.reshape(*merging.shape[:-1], 4, merging.shape[-1] // 4)
    return blocks[..., [0, 2, 1, 3], :].transpose(-1, -2).reshape(merging.shape)


def rename_swin(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Convert the layers of a Swin Transformer from Microsoft's names and order to mmseg's; nothing is left out."""
    converted = {}
    for key, value in state_dict.items():
        new_key = key
        for pattern, replacement in SWIN_RENAMES:
            new_key = pattern.sub(replacement, new_key)
        converted[new_key] = unfold_order(value) if '.downsample.' in key else value
    return converted


def convert_official_swin(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Convert Microsoft's official Swin checkpoint to mmseg's ``SwinTransformer``.

    The classifier (``head.*``), the last norm (``norm.*``; mmseg norms each output instead) and the attention masks
    (computed on the fly) are left out.

    Args:
        state_dict: Tensors by official key (``layers.0.blocks.0.attn.qkv.weight``), or the whole file
            (``{'model': ...}``).

    Returns:
        Tensors by mmseg key, without the prefix ``backbone.``.

    Raises:
        UserError: The keys are not those of a Swin Transformer.
    """
    state_dict = state_dict.get('model', state_dict)
    if 'patch_embed.proj.weight' not in state_dict or not any(key.startswith('layers.0.') for key in state_dict):
        raise UserError('not an official Swin checkpoint: expected keys patch_embed.proj.weight and layers.0.*, '
                        f'found {", ".join(list(state_dict)[:3])}')
    kept = {key: value for key, value in state_dict.items()
            if not key.startswith(('head.', 'norm.')) and not key.endswith('.attn_mask')}
    return rename_swin(kept)


def convert_official_pvt_v2(state_dict: Mapping[str, Tensor]) -> StateDict:
    """Take an official PVTv2 checkpoint as it is, without its classifier (``head.*``).

    Args:
        state_dict: Tensors by official key (``block1.0.attn.q.weight``), or the whole file (``{'model': ...}``).

    Returns:
        Tensors under the same keys, which are those of the backbone.

    Raises:
        UserError: The keys are not those of a PVTv2.
    """
    state_dict = state_dict.get('model', state_dict)
    if 'patch_embed1.proj.weight' not in state_dict or not any(
            key.startswith('block1.0.mlp.dwconv.') for key in state_dict):
        raise UserError('not an official PVTv2 checkpoint: expected keys patch_embed1.proj.weight and '
                        f'block1.0.mlp.dwconv.*, found {", ".join(list(state_dict)[:3])}')
    return {key: value for key, value in state_dict.items() if not key.startswith('head.')}


@dataclass(frozen=True)
class Layout:
    """A published family of backbone files.

    Args:
        family: What to call it in messages.
        file: The file that a user is told to get.
        convert: From the published to mmseg's layout.
        untrained: Pattern of the backbone's keys that such a file does not hold; they keep their initial values.
    """

    family: str
    file: str
    convert: Callable[[Mapping[str, Tensor]], StateDict]
    untrained: str


LAYOUTS = {
    'swin': Layout('Swin-B', 'swin_base_patch4_window7_224.pth (official Swin release, '
                             'github.com/microsoft/Swin-Transformer)', convert_official_swin, r'norm\d\.(weight|bias)'),
    'pvt_v2': Layout('PVTv2', 'pvt_v2_b2.pth, or the one of another size (official PVT release, '
                              'github.com/whai362/PVT)', convert_official_pvt_v2, r'(?!)'),
}


def load_backbone(backbone: nn.Module, path: str | Path, layout: str = 'swin') -> None:
    """Load a published file into a backbone, completely or not at all.

    Args:
        backbone: A backbone; of a wrapper around another
            (:func:`projects.engine.pretrained_part.pretrained_part`) it fills the one inside.
        path: Local file.
        layout: Key of :data:`LAYOUTS`.

    Raises:
        UserError: The layout is unknown, the file is missing or unreadable, or a key has no place.
    """
    if layout not in LAYOUTS:
        raise UserError(f'init_cfg.layout: expected one of {", ".join(LAYOUTS)}, found {layout!r}')
    published = LAYOUTS[layout]
    backbone = pretrained_part(backbone)[1]
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f'pretrained {published.family} not found at {path}: get {published.file} and pass its path as '
                        'model.init_cfg.checkpoint')
    try:
        converted = published.convert(read_checkpoint(path)['state_dict'])
    except UserError as error:
        raise UserError(f'{path}: {error}') from error
    report = compare_keys(backbone, converted)
    missing = [key for key in report.missing if not re.fullmatch(published.untrained, key)]
    for problem, keys in (('missing', missing), ('unknown', report.unexpected), ('wrongly shaped', report.reshaped)):
        if keys:
            raise UserError(f'{path}: it does not fit this {type(backbone).__name__}: {len(keys)} {problem} keys: '
                            f'{"; ".join(keys[:3])}')
    backbone.load_state_dict(converted, strict=False)  # what may be missing was checked above
    print_log(f'backbone: {len(report.matched)} keys from {path}', logger='current')


@WEIGHT_INITIALIZERS.register_module()
class PretrainedFile:
    """Weight initializer: the model's backbone starts from a published file.

    Set on the *model*, ``init_cfg=dict(type='PretrainedFile', checkpoint=PATH, layout='swin')``, because mmseg's
    backbones load files themselves, and only warn when keys do not match. It runs when a training starts, not when a
    model is merely built.

    Args:
        checkpoint: Local file, or None: everything starts from scratch.
        layout: Key of :data:`LAYOUTS`.
    """

    def __init__(self, checkpoint: str | None = None, layout: str = 'swin') -> None:
        self.checkpoint = checkpoint
        self.layout = layout

    def __call__(self, module: nn.Module) -> None:
        """Initialise ``module.backbone`` (all of it), load the file, and keep MMEngine from initialising it again."""
        if self.checkpoint is None:
            return
        backbone = module.backbone
        backbone.init_weights()
        load_backbone(backbone, self.checkpoint, self.layout)
        backbone.is_init = True
