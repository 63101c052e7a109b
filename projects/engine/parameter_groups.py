"""Parameter groups by what a parameter is, not by what its name happens to contain.

MMEngine's ``custom_keys`` match by substring and switch ``bias_decay_mult`` off wherever they match.
"""

from typing import Any

from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from projects.engine.errors import UserError
from projects.engine.trained_network import trained_network

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
KEYS = {'backbone_lr_mult', 'layer_decay', 'no_decay'}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ParameterGroups:
    """Build an optimizer whose groups differ by backbone depth and by decay.

    ``paramwise_cfg`` takes:

    - ``backbone_lr_mult`` (float, default 1): rate of everything under ``backbone.`` relative to the rest.
    - ``layer_decay`` (float in (0, 1], default 1): further factor for each backbone level below the last; the patch
      embedding is level 0, stage i is level i + 1 (layer-wise rate decay, Clark et al. 2020, by stage).
    - ``no_decay`` (names, default ``('relative_position_bias_table',)``): parameters of these own names have no weight
      decay either. Biases and the parameters of norms never have.

    Frozen parameters (``requires_grad=False``) belong to no group. Every group has a ``name``.
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
        depth = 1 + max((_level(name) for name, _ in model.named_parameters() if name.startswith('backbone.')),
                        default=0)
        groups: dict[tuple[str, bool], dict[str, Any]] = {}
        seen: set[int] = set()
        for module_name, module in model.named_modules():
            for own_name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                name = f'{module_name}.{own_name}' if module_name else own_name
                decays = not (own_name == 'bias' or isinstance(module, NORMS) or own_name in self.no_decay)
                place, factor = 'rest', 1.0
                if name.startswith('backbone.'):
                    level = _level(name)
                    factor = self.backbone_lr_mult * self.layer_decay ** (depth - 1 - level)
                    place = 'backbone' if self.layer_decay == 1.0 else f'backbone.{level}'
                group = groups.setdefault((place, decays), dict(
                    params=[], lr=lr * factor, weight_decay=decay if decays else 0.0,
                    name=place if decays else f'{place} without decay'))
                group['params'].append(parameter)
        return list(groups.values())


def _level(name: str) -> int:
    """Return the depth of a backbone parameter: 0 for what comes before the stages, i + 1 for stage (or norm) i."""
    for part in name.split('.')[1:3]:
        for prefix in ('norm', 'layer', 'stage'):  # norm3 (Swin's outputs), layer2 (ResNet), stage1
            if part.startswith(prefix) and part[len(prefix):].isdigit():
                return int(part[len(prefix):]) + (prefix == 'norm')
        if part.isdigit():  # stages.2, layers.1
            return int(part) + 1
    return 0
