#!/usr/bin/env python
"""Verifying roof lines beside the published way of doing it: seconds, memory, equal scores, and what pruning costs.

    tools/benchmarks/roofline_lines.py [--junctions 200] [--json FILE]
    tools/benchmarks/roofline_lines.py --config CONFIG --checkpoint CHECKPOINT --data DIR

Both start from the same seeded maps (128 x 128, 128 channels) with the same weights on one thread, turn about, and end
with a score for every line they look at. The published way (RoofMapNet, github.com/CVEO/RoofMapNet, after L-CNN) is
re-stated here from what it computes: every pair of junctions gets 64 points, four gathers of 128 channels weighted
bilinearly, three 1-D convolutions that say which share is hidden, a slice of each line set to zero in a Python loop, a
max-pool to 8 and three linear layers. Its bilinear weights are wrong within half a cell of the border, so scores are
compared on lines whose ends are further inside. Memory is the peak of a process of its own.

With a checkpoint: sAP10 on the test split of DIR with at most 2,500 lines an image, and with all of them.
Status 1 where an aim is missed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.engine.files import write_json
from projects.engine.testing import test
from projects.evaluation.tables import text_table
from projects.roofline.labels import draw_maps
from projects.roofline.models.junctions import find_junctions
from projects.roofline.models.line_proposal import propose_lines
from projects.roofline.models.line_sampling import pooled_samples
from projects.roofline.models.line_verifier import LineVerifier

RATIO, MEMORY, SCORE, COST = 8.0, 1500.0, 1e-4, 0.2  # issue 7: end to end, MB, largest difference, sAP10
AT, CROWD = 200, 300  # junctions at which the first two aims are meant
SIZE, CHANNELS, POINTS, POOLED, LIMIT = 128, 128, 64, 8, 2500
USE_ENDS = 0.0  # factor of the eight numbers: use_cood and use_slop of the published config.yaml
PARTS = ('junctions and pairs', 'sampling', 'convolutions', 'slices', 'max-pool', 'linear layers')


class Published(nn.Module):
    """The published verifier; its layers bear the published names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1_line, self.bn1 = nn.Conv1d(1, 64, 3, padding=1), nn.BatchNorm1d(64)
        self.conv2_line, self.bn2 = nn.Conv1d(64, 64, 3, padding=1), nn.BatchNorm1d(64)
        self.conv3_line, self.bn3 = nn.Conv1d(64, 64, 3, padding=1), nn.BatchNorm1d(64)
        self.fc_line = nn.Linear(64 * POINTS, 2)
        self.fc2 = nn.Sequential(nn.Linear(CHANNELS * POOLED + 8, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
                                 nn.Linear(1024, 1))

    @torch.no_grad()
    def forward(self, maps: dict[str, Tensor], junctions: int) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
        """Score all pairs of so many junctions of one image.

        Returns:
            Lines (L, 2, 2) in cells, scores (L,), hidden points [first, last) (L, 2), and the seconds of each part.
        """
        clock = [time.perf_counter()]

        def lap() -> None:
            clock.append(time.perf_counter())

        lines, ends = self.pairs(maps, junctions)
        lap()
        features, share = self.sampled(maps['features'][0], maps['lmap'], lines)
        lap()
        share = F.relu(self.bn1(self.conv1_line(share)))
        share = F.relu(self.bn2(self.conv2_line(share)))
        share = F.relu(self.bn3(self.conv3_line(share)))
        hidden = torch.ceil(torch.sigmoid(self.fc_line(share.flatten(1))) * POINTS).long()
        lap()
        first, last = hidden[:, 0], hidden[:, 1]
        for number in range(len(features)):
            features[number, :, first[number]:last[number]] = 0
        lap()
        pooled = F.max_pool1d(features, POINTS // POOLED, POINTS // POOLED)
        lap()
        scores = torch.sigmoid(self.fc2(torch.cat((pooled.reshape(len(pooled), -1), ends), 1)).flatten())
        lap()
        return lines, scores, hidden, dict(zip(PARTS, np.diff(clock).tolist()))

    @staticmethod
    def pairs(maps: dict[str, Tensor], number: int) -> tuple[Tensor, Tensor]:
        """Lines (L, 2, 2) between all pairs of the best junctions, and the eight numbers (L, 8) that describe them."""
        jmap, joff = maps['jmap'][0], maps['joff'][0]
        peaks = jmap * (F.max_pool2d(jmap, 3, 1, 1) == jmap)
        index = torch.topk(peaks.flatten(), number).indices
        y = torch.div(index, SIZE, rounding_mode='floor') + joff[0, 0].flatten()[index] + 0.5
        x = index % SIZE + joff[0, 1].flatten()[index] + 0.5
        yx, every = torch.stack((y, x), 1), torch.arange(number)
        u, v = (ends.flatten() for ends in torch.meshgrid(every, every, indexing='ij'))
        u, v = u[u < v], v[u < v]
        way = yx[u] - yx[v]
        way = way / torch.linalg.vector_norm(way, dim=1, keepdim=True).clamp_min(1e-6)
        ends = torch.cat((yx[u] / SIZE, yx[v] / SIZE, way, torch.zeros(len(u), 2)), 1) * USE_ENDS
        return torch.stack((yx[u], yx[v]), 1), ends

    @staticmethod
    def sampled(features: Tensor, lmap: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
        """Features (L, C, 64) and line map (L, 1, 64) along the lines; its points run from the second end."""
        share = torch.linspace(0, 1, POINTS)[:, None]
        p = (lines[:, 0:1] * share + lines[:, 1:2] * (1 - share) - 0.5).reshape(-1, 2)
        y, x = p[:, 0].contiguous(), p[:, 1].contiguous()
        y0, x0 = y.floor().clamp(0, SIZE - 1), x.floor().clamp(0, SIZE - 1)
        y1, x1 = (y0 + 1).clamp(0, SIZE - 1), (x0 + 1).clamp(0, SIZE - 1)
        r0, c0, r1, c1 = y0.long(), x0.long(), y1.long(), x1.long()

        def along(values: Tensor) -> Tensor:
            mixed = (values[:, r0, c0] * (y1 - y) * (x1 - x) + values[:, r1, c0] * (y - y0) * (x1 - x)
                     + values[:, r0, c1] * (y1 - y) * (x - x0) + values[:, r1, c1] * (y - y0) * (x - x0))
            return mixed.reshape(len(values), -1, POINTS).permute(1, 0, 2)

        return along(features), along(lmap)


def make_maps(junctions: int, seed: int = 0) -> dict[str, Tensor]:
    """Maps of one image with so many junctions, two cells apart at least, and a line between near ones."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((0, 2), np.float32)
    while len(cells) < junctions:
        place = rng.uniform(0, SIZE, 2).astype(np.float32)
        if not (np.abs(np.floor(cells) - np.floor(place)).max(1) < 2).any():
            cells = np.vstack((cells, place))
    distance = np.linalg.norm(cells[:, None] - cells[None], axis=2)
    near = np.argsort(distance, 1)[:, 1:4]
    lines = np.unique(np.sort(np.stack((np.repeat(np.arange(junctions), 3), near.ravel()), 1), 1), axis=0)
    maps = draw_maps(cells, lines, (SIZE, SIZE))
    generator = torch.Generator().manual_seed(seed)
    # all different, so that both ways order the junctions alike
    jmap = torch.from_numpy(maps.jmap)[None] * (0.5 + 0.5 * torch.rand(1, 1, SIZE, SIZE, generator=generator))
    lmap = (torch.from_numpy(maps.lmap)[None] * 0.9 + 0.1 * torch.rand(1, SIZE, SIZE, generator=generator))
    return {'jmap': jmap, 'joff': torch.from_numpy(maps.joff)[None], 'lmap': lmap,
            'features': torch.randn(1, CHANNELS, SIZE, SIZE, generator=generator)}


def make_verifiers(seed: int = 0) -> tuple[LineVerifier, Published]:
    """Both verifiers with the same weights, of a size that tells lines apart and hides shares of many lengths."""
    generator = torch.Generator().manual_seed(seed)
    ours, published = LineVerifier(), Published()
    for name, values in published.state_dict().items():
        if values.dim() > 1:
            values.normal_(0, values[0].numel() ** -0.5, generator=generator)
        elif name.endswith('running_var'):
            values.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith('running_mean'):
            values.normal_(0, 0.1, generator=generator)
    published.fc_line.weight.data.mul_(2)
    share_weights(published, ours)
    return ours.eval(), published.eval()


def share_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights between layers of one kind and shape, in order; their names and places differ."""
    for kind in (nn.Conv1d, nn.BatchNorm1d, nn.Linear):
        theirs, mine = (sorted((layer for layer in module.modules() if isinstance(layer, kind)),
                               key=lambda layer: layer.weight.shape) for module in (source, target))
        for their, my in zip(theirs, mine, strict=True):
            my.load_state_dict(their.state_dict())
    numbers = [sum(values.numel() for name, values in module.named_parameters() if not name.startswith('fc1.'))
               for module in (source, target)]  # fc1 makes the features that both begin with
    if numbers[0] != numbers[1]:
        raise RuntimeError(f'expected a verifier of {numbers[0]} weights, as published, found {numbers[1]}')


@torch.no_grad()
def ours(verifier: LineVerifier, maps: dict[str, Tensor], junctions: int, limit: int | None) -> tuple[Tensor, ...]:
    """Lines (L, 2, 2), their scores (L,), hidden points (L, 2) and numbers (L,) among all pairs u < v."""
    found = find_junctions(maps['jmap'], maps['joff'], junctions)
    lines = propose_lines(found, maps['lmap'], limit)
    logits, occlusion = verifier(maps['features'], maps['lmap'], lines.lines_yx, lines.image_index)
    u, v = lines.pairs.T
    number = u * (2 * junctions - u - 1) // 2 + v - u - 1
    hidden = 1 - occlusion.flip(1)  # the published points run from the second end
    return lines.lines_yx, logits.sigmoid(), torch.ceil(hidden * POINTS).long(), number


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def side_by_side(junctions: int, repeats: int) -> dict:
    """Time both ways turn about, compare their scores, print the tables."""
    maps, (verifier, published) = make_maps(junctions), make_verifiers()
    ours(verifier, maps, junctions, LIMIT)  # first calls pay for set-up
    lines, expected, hidden, _ = published(maps, junctions)
    image = torch.zeros(len(lines), dtype=torch.long)
    ways: dict[str, list[float]] = {'sampling': [], 'every line': [], 'pruned': []}
    parts: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(repeats):
        for name, seconds in published(maps, junctions)[3].items():
            parts[name].append(seconds)
        with torch.no_grad():
            ways['sampling'].append(timed(lambda: pooled_samples(maps['features'], lines, image, POINTS, POOLED)))
        ways['every line'].append(timed(lambda: ours(verifier, maps, junctions, None)))
        ways['pruned'].append(timed(lambda: ours(verifier, maps, junctions, LIMIT)))
    whole = [sum(seconds) for seconds in zip(*parts.values())]
    print(text_table([f'published way, {len(lines):,} lines', 'seconds: least', 'median'], [
        [name, f'{min(seconds):.3f}', f'{median(seconds):.3f}'] for name, seconds in [*parts.items(), ('all', whole)]]))
    pairs = {'sampling alone, all lines, ours with max-pool': (parts['sampling'], ways['sampling']),
             'end to end, all lines': (whole, ways['every line']),
             f'end to end, the best {LIMIT:,} by the line map': (whole, ways['pruned'])}
    rows, ratios = [], {}
    for name, (theirs, mine) in pairs.items():
        ratios[name] = {'least': min(theirs) / min(mine), 'median': median(theirs) / median(mine)}
        rows.append([name, f'{min(theirs):.3f}', f'{min(mine):.3f}', f'{ratios[name]["least"]:.1f}x',
                     f'{ratios[name]["median"]:.1f}x'])
    print(text_table(['', 'published s', 'ours s', 'ratio of the least', 'of the medians'], rows))
    memory = peak_memory()
    scores = {name: compared(ours(verifier, maps, junctions, limit), lines, expected, hidden)
              for name, limit in (('every line', None), ('pruned', LIMIT))}
    for name, found in scores.items():
        print(f'scores, {name}: {found["lines"]:,} lines inside, largest difference {found["difference"]:.1e}'
              f' ({found["other_slice"]} lines whose hidden share rounds to another point left out)')
    return {'junctions': junctions, 'lines': len(lines), 'repeats': repeats, 'published': parts, 'ours': ways,
            'ratios': ratios, 'scores': scores, 'published_memory_mb': memory}


def compared(found: tuple[Tensor, ...], lines: Tensor, expected: Tensor, hidden: Tensor) -> dict[str, float]:
    """Compare with the published scores (N,) on the lines whose ends are where its interpolation is right."""
    lines_yx, scores, mine, number = found
    if not torch.allclose(lines_yx, lines[number]):
        raise RuntimeError('both ways must look at the same lines')
    inside = ((lines_yx >= 0.5) & (lines_yx < SIZE - 0.5)).flatten(1).all(1)
    same = (mine == hidden[number]).all(1)
    difference = (scores - expected[number]).abs()[inside & same]
    return {'lines': int(inside.sum()), 'difference': float(difference.max()) if len(difference) else np.inf,
            'other_slice': int((inside & ~same).sum()), 'spread': float(expected.std()),
            'hidden': float((hidden[:, 1] - hidden[:, 0]).clamp_min(0).float().mean()) / POINTS}


def peak_memory() -> float:
    """The largest resident size of this process so far, in MB."""
    status = Path('/proc/self/status')
    if status.exists():  # getrusage would give a child its parent's peak, which it was forked from
        line = next(line for line in status.read_text().splitlines() if line.startswith('VmHWM'))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == 'darwin' else 1e3)


def in_child(*arguments: object) -> dict:
    """What this script prints for `--child`, run in a process of its own on one thread."""
    with tempfile.TemporaryDirectory(prefix='roofline_lines_') as folder:
        found = Path(folder, 'found.json')
        ended = subprocess.run([sys.executable, __file__, *map(str, arguments), '--json', found], text=True,
                               capture_output=True, env=dict(os.environ, OMP_NUM_THREADS='1', WANDB_MODE='disabled'))
        if ended.returncode:
            raise UserError(f'{Path(__file__).name}: its process ended with status {ended.returncode}: '
                            f'{(ended.stderr.strip().splitlines() or [""])[-1]}')
        return json.loads(found.read_text())


def memory_of(junctions: int) -> dict[str, float]:
    """Peak MB of processes that verify the lines of one image with so many junctions, pruned and all of them."""
    return {name: in_child('--child', 'memory', '--junctions', junctions, '--limit', limit)['memory_mb']
            for name, limit in (('pruned', LIMIT), ('every line', 0))}


def pruning_cost(config: Path, checkpoint: Path, data: Path) -> dict[str, float]:
    """sAP10 of a trained model with its lines pruned and with all of them."""
    scores = {}
    for name, limit in (('pruned', LIMIT), ('every line', 0)):
        metrics = in_child('--child', 'test', '--config', config, '--checkpoint', checkpoint, '--data', data,
                           '--limit', limit)
        if 'sAP10' not in metrics:
            raise UserError(f'{config}: test_evaluator: expected the metric sAP10, found {", ".join(metrics)}')
        scores[name] = metrics['sAP10']
    return {**scores, 'cost': scores['every line'] - scores['pruned']}


def child(args: argparse.Namespace) -> None:
    """The part of one process: its figures go to `--json`."""
    limit = args.limit or None
    if args.child == 'memory':
        ours(make_verifiers()[0], make_maps(args.junctions), args.junctions, limit)
        found = {'memory_mb': peak_memory()}
    else:
        with tempfile.TemporaryDirectory(prefix='roofline_test_') as folder:
            found = test(args.config, args.checkpoint, work_dir=folder, cfg_options={
                'test_dataloader.dataset.data_root': str(args.data), 'model.detection.line_limit': limit})
    write_json(args.json, found)


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--junctions', type=int, default=AT, metavar='N', help=f'of the image to time ({AT})')
    parser.add_argument('--crowd', type=int, default=CROWD, metavar='N', help=f'of the image for memory ({CROWD})')
    parser.add_argument('--repeats', type=int, default=3, metavar='N', help='rounds, after one that is not counted (3)')
    parser.add_argument('--config', type=Path, help='of a trained model: also measure what pruning costs')
    parser.add_argument('--checkpoint', type=Path)
    parser.add_argument('--data', type=Path, metavar='DIR', help='graph data set, of which the test split is scored')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures')
    parser.add_argument('--child', choices=('memory', 'test'), help=argparse.SUPPRESS)
    parser.add_argument('--limit', type=int, default=LIMIT, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        child(args)
        return 0
    model = (args.config, args.checkpoint, args.data)
    if any(model) and not all(model):
        raise UserError('--config, --checkpoint and --data: expected all three or none')
    if not 2 <= args.junctions <= 1000 or not 2 <= args.crowd <= 1000:
        raise UserError(f'--junctions and --crowd: expected 2 to 1000, found {args.junctions} and {args.crowd}')
    if not 1 <= args.repeats <= 1000:
        raise UserError(f'--repeats: expected 1 to 1000, found {args.repeats}')
    found = side_by_side(args.junctions, args.repeats)
    found['memory_mb'] = memory_of(args.crowd)
    print(f'peak memory at {args.crowd} junctions: ' + ', '.join(
        f'{name} {value:.0f} MB' for name, value in found['memory_mb'].items())
        + f'; the published way at {args.junctions}: {found["published_memory_mb"]:.0f} MB')
    aims = {f'scores equal to {SCORE:g}': all(score['difference'] <= SCORE for score in found['scores'].values()),
            f'at most {MEMORY:g} MB': max(found['memory_mb'].values()) <= MEMORY}
    if args.junctions >= AT:  # with fewer lines there is less to gain
        *_, pruned = found['ratios'].values()
        aims[f'{RATIO:g}x end to end'] = pruned['median'] >= RATIO
    if args.config:
        found['sAP10'] = pruning_cost(*model)
        print('sAP10: ' + ', '.join(f'{name} {value:.2f}' for name, value in found['sAP10'].items()))
        aims[f'pruning costs at most {COST:g} sAP10'] = found['sAP10']['cost'] <= COST
    for aim, good in aims.items():
        print(f'aim: {aim}: ' + ('reached' if good else 'missed'))
    found['reached'] = all(aims.values())
    if args.json:
        write_json(args.json, found)
    return 0 if found['reached'] else 1


if __name__ == '__main__':
    run(main)
