"""One switch for each lever of speed: autocast, channels-last, compile; per device, measured, not guessed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS
from torch import nn

from projects.engine.errors import UserError

LEVERS = ('amp', 'channels_last', 'compile')
PLAIN_WRAPPERS = ('OptimWrapper', 'BFloat16OptimWrapper', 'AmpOptimWrapper')


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Run forward under bfloat16 autocast, on CPU or CUDA; parameters and steps stay float32, no loss scaling.

    MMEngine's ``AmpOptimWrapper`` refuses to run without CUDA.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield


def apply_precision(config: Config, device: torch.device, amp: bool = False) -> dict[str, bool]:
    """Write the config's levers for this device into the keys that MMEngine reads.

    ``precision = dict(cpu=dict(amp=…, channels_last=…, compile=…), cuda=dict(…))``. Autocast is bfloat16 where the
    device has it, else (older CUDA devices) float16 with loss scaling.

    Args:
        config: The config; ``optim_wrapper.type`` and ``compile`` are set in place.
        device: The device of this run.
        amp: True switches autocast on whatever the config says.

    Returns:
        The levers in force.
    """
    chosen = dict(config.get('precision', {}).get(device.type, {}))
    unknown = sorted(set(chosen) - set(LEVERS))
    if unknown:
        raise UserError(f'precision.{device.type}.{unknown[0]}: expected one of {", ".join(LEVERS)}')
    levers = {lever: bool(chosen.get(lever, False)) for lever in LEVERS}
    levers['amp'] = levers['amp'] or amp
    if config.get('optim_wrapper'):
        wrapper = config.optim_wrapper
        if wrapper.get('type', 'OptimWrapper') not in PLAIN_WRAPPERS:
            if levers['amp']:
                raise UserError(f'--amp: optim_wrapper.type is {wrapper.type}, expected one of '
                                f'{", ".join(PLAIN_WRAPPERS)}')
        else:
            for key in ('loss_scale', 'dtype', 'use_fsdp'):  # of an AmpOptimWrapper: the precision is chosen here
                wrapper.pop(key, None)
            if not levers['amp']:
                wrapper.type = 'OptimWrapper'
            elif device.type == 'cuda' and not torch.cuda.is_bf16_supported(including_emulation=False):
                wrapper.type, wrapper.dtype = 'AmpOptimWrapper', 'float16'
            else:
                wrapper.type = 'BFloat16OptimWrapper'
    config['compile'] = levers['compile']
    config['channels_last'] = levers['channels_last']
    return levers
