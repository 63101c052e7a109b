"""What a network costs: parameters, multiply-accumulates, time and memory, in total, by part and by scale."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from projects.engine.errors import UserError
from projects.multiscale.cost_report.macs import NOT_COUNTED, MacCounter
from projects.multiscale.cost_report.peak_memory import peak_memory, worst_case
from projects.multiscale.cost_report.setting import CostSetting
from projects.multiscale.recomputation import recomputed
from projects.multiscale.resizing import resize

METHODS = ('loss', 'forward_scales', 'forward')  # by which a segmentor calls its parts
NUDGE = 1e-3


@dataclass
class Part:
    """A part of a segmentor that is called by one of :data:`METHODS`, once or several times.

    Args:
        name: Attribute of the segmentor.
        modules: What is called: the part, or the elements of a list.
    """

    name: str
    modules: list[nn.Module]
    macs: int = 0
    calls: list[tuple[Callable, tuple, dict]] = field(default_factory=list)  # of one training step


def measure_cost(setting: CostSetting, rounds: int = 5, warm_up: int = 2, memory: bool = True) -> dict[str, Any]:
    """Measure a config's network in a setting.

    The total is a training step without the optimizer's: forward with the config's losses, backward. Each part and
    each scale is then run by itself on what it was given in such a step, forward and backward, so that their sum is
    the total only up to what lies between them. Times are medians; a scale with a gradient by chance counts both
    outcomes by their probability. Dead parameters want a gradient and get none, or only zeros, in two steps;
    parameters that begin as zeros are nudged for these, because what lies behind them is dead at the first step only.

    Args:
        setting: What to measure.
        rounds: Measured repetitions, at least 1.
        warm_up: Repetitions before them.
        memory: Also measure the peak memory (on the CPU in a process of its own).

    Returns:
        Plain values: ``setting``, ``total``, ``parts``, ``scales`` and ``fusion`` (of a multi-scale backbone, else
        empty and None), ``dead_parameters`` (names), ``not_counted``. Times in seconds, memory in bytes. ``kept``
        is what forward keeps for backward: activations, without parameters.

    Raises:
        UserError: The network refuses the input.
    """
    with setting.in_threads():
        peak = None
        if memory and torch.device(setting.device).type == 'cuda':
            with _refusals(setting):
                peak = peak_memory(setting)  # first: nothing else lies on the device
        model = setting.build()
        images, samples = setting.draw(model)
        parts, fusion = _parts(model), _fusion(model)
        watched = [*parts, *([fusion] if fusion else [])]
        with _refusals(setting):
            macs = _inference_macs(setting, model, images, watched)
            dead = _dead(setting, model)
            training_macs = _record(setting, model, images, samples, watched)
        watch = _Watch(setting, rounds, warm_up)
        forward, backward = _total_times(watch, model, images, samples)
        total = dict(_parameters(model, dead), macs=macs, training_macs=training_macs, forward=forward,
                     backward=backward, kept=_kept(model, lambda: setting.loss(model, images, samples)))
        rows = [dict(_parameters(part.modules, dead), name=part.name, type=type(part.modules[0]).__name__,
                     macs=part.macs, **_replayed(watch, part)) for part in parts]
        scales = _scales(watch, model, images)
        fused = fusion and dict(_parameters(fusion.modules, dead), type=type(fusion.modules[0]).__name__,
                                macs=fusion.macs, **_replayed(watch, fusion))
        names = [name for name, parameter in model.named_parameters() if id(parameter) in dead]
    if memory and peak is None:
        peak = peak_memory(setting)
    return dict(setting=dict(setting.plain(), torch=torch.__version__, threads=setting.threads
                             or torch.get_num_threads(), device_name=_device_name(setting), rounds=rounds),
                total=dict(total, peak=peak), parts=rows, scales=scales, fusion=fused, dead_parameters=names,
                not_counted=NOT_COUNTED)


@contextmanager
def _refusals(setting: CostSetting) -> Iterator[None]:
    """Turn what a network says about an input that it cannot take into one line."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f'--input {setting.height} {setting.width} (batch {setting.batch}): the network of '
                        f'{setting.config} refuses it: {told[0]}') from error


def _parts(model: nn.Module) -> list[Part]:
    found = []
    for name, child in model.named_children():
        if name != 'data_preprocessor':
            found.append(Part(name, list(child) if isinstance(child, nn.ModuleList) else [child]))
    return found


def _fusion(model: nn.Module) -> Part | None:
    fusers = getattr(model.backbone, 'fusers', None)
    if not hasattr(model.backbone, 'scales') or fusers is None or getattr(model.backbone, 'single_scale', False):
        return None
    fusers = [fuser for fuser in fusers if not isinstance(fuser, nn.Identity)]
    return Part('fusion', fusers) if fusers else None


@contextmanager
def _intercepted(parts: Sequence[Part], around: Callable) -> Iterator[None]:
    """Call ``around(part, method, args, kwargs)`` in place of the outermost call of each part's methods."""
    inside: set[str] = set()

    def replacement(part: Part, method: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            if part.name in inside:
                return method(*args, **kwargs)
            inside.add(part.name)
            try:
                return around(part, method, args, kwargs)
            finally:
                inside.discard(part.name)
        return call

    replaced = []
    try:
        for part in parts:
            for module in part.modules:
                for name in METHODS:
                    if callable(getattr(module, name, None)) and not isinstance(getattr(module, name), nn.Module):
                        setattr(module, name, replacement(part, getattr(module, name)))
                        replaced.append((module, name))
        yield
    finally:
        for module, name in replaced:
            module.__dict__.pop(name, None)


def _inference_macs(setting: CostSetting, model: nn.Module, images: Tensor, parts: Sequence[Part]) -> int:
    counter = MacCounter()

    def around(part: Part, method: Callable, args: tuple, kwargs: dict) -> Any:
        before = counter.macs
        result = method(*args, **kwargs)
        part.macs += counter.macs - before
        return result

    model.eval()
    try:
        with torch.no_grad(), setting.autocast(), _intercepted(parts, around), counter:
            model(images, mode='tensor')
    finally:
        model.train()
    return counter.macs


def _dead(setting: CostSetting, model: nn.Module) -> set[int]:
    """Return the ids of the parameters that want a gradient and get none but zeros."""
    wanting = [parameter for parameter in model.parameters() if parameter.requires_grad]
    zeros = [parameter for parameter in wanting if not parameter.any()]
    dropping = [module for module in model.modules() if 'drop' in type(module).__name__.lower()]
    dead = {id(parameter) for parameter in wanting}
    worst_case(model)
    for module in dropping:
        module.eval()  # a block dropped by chance is not dead
    with torch.no_grad():
        for parameter in zeros:
            parameter.normal_(std=NUDGE)
    for seed in (1, 2):
        setting.loss(model, *setting.draw(model, seed)).backward()
        dead -= {id(parameter) for parameter in wanting if parameter.grad is not None and bool(parameter.grad.any())}
        model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for parameter in zeros:
            parameter.zero_()
    for module in dropping:
        module.train()
    _forget_modes(model)
    return dead


def _record(setting: CostSetting, model: nn.Module, images: Tensor, samples: list, parts: Sequence[Part]) -> int:
    """Keep what each part is given in a training step; return the multiply-accumulates of forward and backward."""
    counter = MacCounter()

    def around(part: Part, method: Callable, args: tuple, kwargs: dict) -> Any:
        part.calls.append((method, tree_map(_apart, args), tree_map(_apart, kwargs)))
        return method(*args, **kwargs)

    worst_case(model)
    with _intercepted(parts, around), counter:
        setting.loss(model, images, samples).backward()
    _forget_modes(model)
    model.zero_grad(set_to_none=True)
    return counter.macs


def _apart(value: Any) -> Any:
    """Return a tensor as the leaf of a graph of its own."""
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


@dataclass
class _Watch:
    """Times a forward and its backward.

    Args:
        setting: Its precision and device.
        rounds: Measured repetitions.
        warm_up: Repetitions before them.
    """

    setting: CostSetting
    rounds: int
    warm_up: int

    def time(self, forward: Callable[[], Any], model: nn.Module) -> tuple[float, float]:
        """Return the medians of the seconds of ``forward()`` and of the backward of all that it returns."""
        times = []
        for _ in range(self.warm_up + self.rounds):
            begin = self._now()
            outputs = _outputs(forward())
            between = self._now()
            if outputs:
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
            times.append((between - begin, self._now() - between))
            model.zero_grad(set_to_none=True)
        return tuple(statistics.median(column) for column in zip(*times[self.warm_up:]))

    def _now(self) -> float:
        if torch.device(self.setting.device).type == 'cuda':
            torch.cuda.synchronize(self.setting.device)
        return time.perf_counter()


def _outputs(result: Any) -> list[Tensor]:
    return [value for value in tree_flatten(result)[0] if isinstance(value, Tensor) and value.requires_grad]


def _outcomes(model: nn.Module) -> list[tuple[float, tuple[str, ...] | None]]:
    """Return the modes of the scales that their policies may draw, each with its probability."""
    backbone = model.backbone
    if not hasattr(backbone, 'policy') or getattr(backbone, 'single_scale', False):
        return [(1.0, None)]
    choices = [[(policy.probability, policy.mode)] + ([(1 - policy.probability, 'no_grad')]
                                                      if policy.probability < 1 else [])
               for policy in backbone.policy]
    outcomes = []
    for drawn in itertools.product(*choices):
        chance = 1.0
        for probability, _ in drawn:
            chance *= probability
        if chance:
            outcomes.append((chance, tuple(mode for _, mode in drawn)))
    return outcomes


def _forget_modes(model: nn.Module) -> None:
    if hasattr(model.backbone, 'modes'):
        model.backbone.modes = None


def _total_times(watch: _Watch, model: nn.Module, images: Tensor, samples: list) -> tuple[float, float]:
    """Return the expected seconds of forward and backward."""
    forward = backward = 0.0
    for chance, modes in _outcomes(model):
        if modes is not None:
            model.backbone.modes = modes
        times = watch.time(lambda: watch.setting.loss(model, images, samples), model)
        forward, backward = forward + chance * times[0], backward + chance * times[1]
    _forget_modes(model)
    return forward, backward


def _replayed(watch: _Watch, part: Part) -> dict[str, Any]:
    """Return seconds and kept bytes of a part run on what it was given; None where training does not call it."""
    if not part.calls:
        return dict(forward=None, backward=None, kept=None)
    owner = nn.ModuleList(part.modules)

    def forward() -> list:
        with watch.setting.autocast():
            return [method(*_copied(args), **kwargs) for method, args, kwargs in part.calls]

    times = watch.time(forward, owner)
    return dict(forward=times[0], backward=times[1], kept=_kept(owner, forward))


def _copied(args: tuple) -> tuple:
    """Copy lists: a callee may empty the one it is given. Leaves are made anew: no gradient piles up in them."""
    return tree_map(_apart, args)


def _scales(watch: _Watch, model: nn.Module, images: Tensor) -> list[dict[str, Any]]:
    """Return what each scale's branch of a multi-scale backbone costs: resizing the image and the shared backbone."""
    backbone = model.backbone
    if not hasattr(backbone, 'scales') or not hasattr(backbone, 'sizes'):
        return []
    height, width = images.shape[-2:]
    sizes = backbone.sizes(height, width)
    used = [backbone.reference] if getattr(backbone, 'single_scale', False) else range(len(sizes))
    pixels = sum(sizes[index][0] * sizes[index][1] for index in used)
    rows = []
    for index in used:
        policy = backbone.policy[index]
        row = dict(scale=backbone.scales[index], height=sizes[index][0], width=sizes[index][1],
                   share=sizes[index][0] * sizes[index][1] / pixels, policy=str(policy), forward=0.0, backward=0.0)
        run = partial(_branch, watch.setting, backbone, images, sizes[index])
        backbone.eval()
        with torch.no_grad(), MacCounter() as counter:
            run('grad')
        backbone.train()
        row['macs'] = counter.macs
        for chance, mode in ((policy.probability, policy.mode), (1 - policy.probability, 'no_grad')):
            if chance:
                forward, backward = watch.time(partial(run, mode), backbone)
                row['forward'] += chance * forward
                row['backward'] += chance * backward
        row['kept'] = _kept(backbone, partial(run, policy.mode))
        rows.append(row)
    return rows


def _branch(setting: CostSetting, backbone: nn.Module, images: Tensor, size: tuple[int, int], mode: str) -> Any:
    recompute = recomputed(backbone._repeated_blocks()) if mode == 'checkpoint' else nullcontext()
    with torch.no_grad() if mode == 'no_grad' else nullcontext(), recompute, setting.autocast():
        return backbone.backbone(resize(images, size, backbone.antialias))


def _kept(model: nn.Module, forward: Callable[[], Any]) -> int:
    """Return the bytes that ``forward()`` keeps for its backward, each storage once, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = forward()  # held until all is counted: a freed storage's address may come again
    del outputs
    return sum(kept.values())


def _parameters(modules: nn.Module | Sequence[nn.Module], dead: set[int]) -> dict[str, int]:
    """Return how many parameters there are, live, dead and frozen; each once."""
    modules = [modules] if isinstance(modules, nn.Module) else modules
    found = {id(parameter): parameter for module in modules for parameter in module.parameters()}.values()
    return dict(
        parameters=sum(parameter.numel() for parameter in found),
        live=sum(p.numel() for p in found if p.requires_grad and id(p) not in dead),
        dead=sum(p.numel() for p in found if id(p) in dead),
        frozen=sum(p.numel() for p in found if not p.requires_grad))


def _device_name(setting: CostSetting) -> str:
    if torch.device(setting.device).type == 'cuda':
        return torch.cuda.get_device_name(setting.device)
    from projects.engine.lineage_record import processor

    return processor()['cpu']
