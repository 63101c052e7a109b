"""What must be true before the first line of a run: safe loading, quiet threads, registered modules."""

import contextlib
import io
import logging
import os
import warnings

import torch


def start() -> None:
    """Prepare this process; every tool calls it first. Calling it again changes nothing.

    - ``torch.load`` reads weights only, whatever a caller asks for (no pickle is ever executed).
    - OpenCV keeps to one thread: data-loader workers already use every core.
    - mmseg's and Terrace's modules are registered and ``mmseg`` is the default scope.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)  # the two exclude each other
    warnings.filterwarnings('ignore', message='.*scheduler.step\\(\\).*')  # MMEngine steps schedulers in hooks
    warnings.filterwarnings('ignore', message='The given NumPy array is not writable')
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')  # a compiled op
    import cv2

    with contextlib.redirect_stdout(io.StringIO()):  # mmseg prints about an optional cloud SDK
        from mmseg.utils import register_all_modules

        register_all_modules(init_default_scope=True)
        import mmseg.visualization  # noqa: F401  (the one module that the call above leaves out)
    logging.getLogger('mmengine').addFilter(lambda record: 'will be deprecated in future' not in record.getMessage())
    from projects.engine.checkpoints import register_safe_loading

    cv2.setNumThreads(0)
    register_safe_loading()
    if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
        torch.set_autocast_dtype('cuda', torch.bfloat16)  # MMEngine's loops would take float16, which can overflow


def device() -> torch.device:
    """Return the device of this process: its CUDA device where CUDA works, else the CPU."""
    if torch.cuda.is_available():
        return torch.device('cuda', torch.cuda.current_device())
    return torch.device('cpu')
