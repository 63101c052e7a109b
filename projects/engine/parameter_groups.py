"""Parameter groups by what a parameter is, not by what its name happens to contain.

MMEngine's ``custom_keys`` match by substring and switch ``bias_decay_mult`` off wherever they match.
"""

import re
from typing import Any

from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from projects.engine.errors import UserError
from projects.engine.pretrained_part import pretrained_part
from projects.engine.trained_network import trained_network

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
KEYS = {'backbone_lr_mult', 'layer_decay', 'no_decay'}
NUMBERED = re.compile(r'(norm|layer|stage)(\d+)')  # norm3 (Swin's outputs), layer2 (ResNet), stage1
PYRAMID = re.compile(r'(patch_embed|block|norm)(\d+)')  # PVTv2, MSCAN: three lists written out, counted from 1


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ParameterGroups:
    """Build an optimizer whose groups differ by backbone depth and by decay.

    ``paramwise_cfg`` takes:

    - ``backbone_lr_mult`` (float, default 1): rate of everything under ``backbone.`` relative to the rest.
    - ``layer_decay`` (float in (0, 1], default 1): further factor for each backbone level below the last; the patch
      embedding is level 0, stage i (from 0) is level i + 1 (layer-wise rate decay, Clark et al. 2020, by stage).
    - ``no_decay`` (names, default ``('relative_position_bias_table',)``): parameters of these own names have no weight
      decay either. Biases (``bias``, ``in_proj_bias``) and the parameters of norms never have.

    Of a backbone that is a wrapper around another, the backbone is what it wraps
    (:func:`projects.engine.pretrained_part.pretrained_part`); what it adds is trained from scratch and belongs to the
    rest. Frozen parameters (``requires_grad=False``) belong to no group. Every group has a ``name``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.wrapper = dict(optim_wrapper_cfg)
        self.optimizer = dict(self.wrapper.pop('optimizer'))
        options = dict(paramwise_cfg or {})
        unknown = sorted(set(options) - KEYS)
        if unknown:
            raise UserError(f'optim_wrapper.paramwise_cfg.{unknown[0]}: expected one of {", ".join(sorted(KEYS))}')
        self.backbone_lr_mult = float(options.get('backbone_lr_mult', 1.0))
        self.layer_decay = float(options.get('layer_decay', 1.0))
        self.no_decay = tuple(options.get('no_decay', ('relative_position_bias_table',)))
        if 'lr' not in self.optimizer:
            raise UserError('optim_wrapper.optimizer.lr: expected a learning rate, found none')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Return the optimizer wrapper for a model (wrapped for distribution or a distillation, or not)."""
        optimizer = OPTIMIZERS.build(dict(self.optimizer, params=self.groups(trained_network(model))))
        return OPTIM_WRAPPERS.build(dict(self.wrapper, optimizer=optimizer))

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return torch parameter groups: dicts with ``params, lr, weight_decay, name``."""
        lr, decay = float(self.optimizer['lr']), float(self.optimizer.get('weight_decay', 0.0))
        inside, backbone = pretrained_part(getattr(model, 'backbone', None))
        prefix = f'backbone.{inside}'
        pyramid = hasattr(backbone, 'block1')
        depth = 1 + max((_level(name.removeprefix(prefix), pyramid) for name, _ in model.named_parameters()
                         if name.startswith(prefix)), default=0)
        groups: dict[tuple[str, bool], dict[str, Any]] = {}
        seen: set[int] = set()
        for module_name, module in model.named_modules():
            for own_name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                name = f'{module_name}.{own_name}' if module_name else own_name
                decays = not (own_name.endswith('bias') or isinstance(module, NORMS) or own_name in self.no_decay)
                place, factor = 'rest', 1.0
                if name.startswith(prefix):
                    level = _level(name.removeprefix(prefix), pyramid)
                    factor = self.backbone_lr_mult * self.layer_decay ** (depth - 1 - level)
                    place = 'backbone' if self.layer_decay == 1.0 else f'backbone.{level}'
                group = groups.setdefault((place, decays), dict(
                    params=[], lr=lr * factor, weight_decay=decay if decays else 0.0,
                    name=place if decays else f'{place} without decay'))
                group['params'].append(parameter)
        return list(groups.values())


def _level(name: str, pyramid: bool = False) -> int:
    """Return the depth of a parameter in its backbone: 0 for what comes before the stages, i + 1 for stage (or norm) i.

    Args:
        name: From the backbone on: ``stages.2.blocks.0.norm1.weight``.
        pyramid: The backbone's children are ``patch_embed1, block1, norm1, patch_embed2, …``: number i is level i, but
            ``patch_embed1``, the patch embedding, is level 0.
    """
    parts = name.split('.')[:2]
    if pyramid:
        match = PYRAMID.fullmatch(parts[0])
        return int(match[2]) if match and match[0] != 'patch_embed1' else 0
    for part in parts:
        if match := NUMBERED.fullmatch(part):
            return int(match[2]) + (match[1] == 'norm')
        if part.isdigit():  # stages.2, layers.1
            return int(part) + 1
    return 0
