"""What this machine has, lacks or shadows."""

import importlib
import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# distribution, import name, needed by everything?
PACKAGES = (
    ('torch', 'torch', True), ('numpy', 'numpy', True), ('onedl-mmengine', 'mmengine', True),
    ('onedl-mmcv', 'mmcv', True), ('onedl-mmsegmentation', 'mmseg', True), ('opencv-python', 'cv2', True),
    ('rasterio', 'rasterio', True), ('shapely', 'shapely', True), ('pyogrio', 'pyogrio', True),
    ('scipy', 'scipy', True), ('matplotlib', 'matplotlib', True), ('safetensors', 'safetensors', True),
    ('wandb', 'wandb', False), ('tensorboard', 'tensorboard', False), ('laspy', 'laspy', False),
    ('lazrs', 'lazrs', False), ('pytest', 'pytest', False), ('ruff', 'ruff', False))
# Installed beside ours, these win the import or break it.
RIVALS = (('mmengine', 'onedl-mmengine'), ('mmcv', 'onedl-mmcv'), ('mmcv-full', 'onedl-mmcv'),
          ('mmsegmentation', 'onedl-mmsegmentation'), ('opencv-python-headless', 'opencv-python'),
          ('opencv-contrib-python', 'opencv-python'))


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: ``status`` is ``ok``, ``note``, ``warning`` or ``missing``."""

    status: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f'{self.status:<8}{self.subject:<22}{self.text}'


def examine() -> list[Finding]:
    """Examine this machine and return one finding a line, in a fixed order."""
    return [*_python(), *_packages(), *_shadows(), *_devices(), *_processes()]


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info < (3, 13)
    yield Finding('ok' if fits else 'missing', 'python', version if fits else f'{version}: expected 3.11 or 3.12')


def _packages() -> Iterator[Finding]:
    pins = _pins()
    for name, module, needed in PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding('missing' if needed else 'note', name, 'not installed')
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a broken package raises is the finding
            yield Finding('missing' if needed else 'warning', name,
                          f'{version}, but import {module} fails: {type(error).__name__}: {error}'.splitlines()[0])
            continue
        pinned = pins.get(name)
        if pinned and version.split('+')[0] != pinned:
            yield Finding('warning', name, f'{version}; requirements/constraints.txt pins {pinned}')
        else:
            yield Finding('ok', name, version)


def _pins() -> dict[str, str]:
    path = Path(__file__).resolve().parents[2] / 'requirements' / 'constraints.txt'
    if not path.is_file():
        return {}
    lines = (line.split('#')[0].split(';')[0].strip() for line in path.read_text().splitlines())
    return dict(line.split('==') for line in lines if '==' in line)


def _shadows() -> Iterator[Finding]:
    found = False
    for rival, ours in RIVALS:
        try:
            version = importlib.metadata.version(rival)
        except importlib.metadata.PackageNotFoundError:
            continue
        found = True
        yield Finding('warning', rival, f'{version} shares its files with {ours}: pip uninstall {rival}')
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass
    except Exception as error:
        found = True
        yield Finding('missing', 'torchvision', f'installed but broken ({type(error).__name__}): it stops every run, '
                                                'pip uninstall torchvision')
    root = Path(__file__).resolve().parents[2]
    import projects
    place = Path(next(iter(projects.__path__))).resolve()
    if place != root / 'projects':
        found = True
        yield Finding('warning', 'projects', f'imported from {place}, not from this checkout')
    if not found:
        yield Finding('ok', 'shadowed packages', 'none')


def _devices() -> Iterator[Finding]:
    import torch
    threads = torch.get_num_threads()
    bf16 = 'with' if any(torch.cpu._is_avx512_bf16_supported() if check == 'avx' else torch.cpu._is_amx_tile_supported()
                         for check in ('avx', 'amx')) else 'without'
    yield Finding('ok', 'cpu', f'{threads} threads, {bf16} bfloat16 instructions')
    if not torch.cuda.is_available():
        built = torch.version.cuda
        yield Finding('note', 'cuda', 'not available' + (f' (torch is built for CUDA {built}: check the driver)'
                                                         if built else ' (torch is a CPU build)'))
        return
    try:
        for index in range(torch.cuda.device_count()):
            value = torch.ones(64, 64, device=f'cuda:{index}')
            total = float((value @ value).sum())
            memory = torch.cuda.get_device_properties(index).total_memory / 2**30
            status = 'ok' if total == 64.0**3 else 'missing'
            yield Finding(status, f'cuda:{index}', f'{torch.cuda.get_device_name(index)}, {memory:.0f} GiB')
    except RuntimeError as error:
        yield Finding('missing', 'cuda', str(error).splitlines()[0])


def _processes() -> Iterator[Finding]:
    import torch.distributed as dist
    if not dist.is_available() or not dist.is_gloo_available():
        yield Finding('missing', 'gloo', 'this torch has no gloo: several CPU processes will not work')
        return
    if dist.is_initialized():
        yield Finding('ok', 'gloo', 'a process group is running')
        return
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    try:
        interface = os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo') if sys.platform == 'linux' else ''
        dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=0, world_size=1)
        dist.destroy_process_group()
        yield Finding('ok', 'gloo', f'a process group starts{f" on {interface}" if interface else ""}')
    except Exception as error:
        yield Finding('missing', 'gloo', f'{type(error).__name__}: {error}'.splitlines()[0])
