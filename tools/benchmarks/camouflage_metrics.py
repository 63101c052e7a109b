#!/usr/bin/env python
"""Time of the camouflage measures against PySODMetrics: tools/benchmarks/camouflage_metrics.py [--rounds N].

PySODMetrics asks for older versions of NumPy and OpenCV than this project has, so that it is run from a Python of its
own (``python -m venv DIR; DIR/bin/pip install pysodmetrics``), on the same arrays, one thread each; rounds take turns,
so that a busy machine slows both, and the figures are medians. Without that Python the figures that were once measured
elsewhere stand in its place, and the tool says so. What it prints last is the largest difference of any score.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from projects.camouflage.metrics import camouflage_scores
from projects.engine.cli import Parser, run
from projects.engine.errors import UserError

SIZES = ((352, 352), (600, 900), (768, 1024))
ELSEWHERE = {(352, 352): 18.0, (600, 900): 85.0, (768, 1024): 146.0}  # ms an image, PySODMetrics 1.6.2
# Answers one request a line: a path of arrays; prints milliseconds an image and the scores of each.
THEIRS = """
import json, sys, time, warnings
warnings.simplefilter('ignore')
import cv2, numpy as np
cv2.setNumThreads(1)
import py_sod_metrics as m
def score(p, g):
    f, s, e, w, a = m.Fmeasure(), m.Smeasure(), m.Emeasure(), m.WeightedFmeasure(), m.MAE()
    for one in (f, s, e, w, a):
        one.step(p, g)
    F, E = f.get_results()['fm'], e.get_results()['em']
    return dict(S=s.get_results()['sm'], wF=w.get_results()['wfm'], MAE=a.get_results()['mae'], E_adp=E['adp'],
                E_mean=E['curve'].mean(), E_max=E['curve'].max(), F_adp=F['adp'], F_mean=F['curve'].mean(),
                F_max=F['curve'].max())
for line in sys.stdin:
    with np.load(line.strip()) as z:
        pairs = [(z[f'pred_{i}'], z[f'gt_{i}']) for i in range(len(z.files) // 2)]
    began = time.perf_counter()
    found = [score(p, g) for p, g in pairs]
    spent = time.perf_counter() - began
    print(json.dumps([1000 * spent / len(pairs), [{k: float(v) for k, v in one.items()} for one in found]]), flush=True)
"""


def image(rng: np.random.Generator, height: int, width: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction and a truth (H, W) uint8: a blob of about that share, blurred, noisy, partly missed."""
    noise = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), height / 12)
    ys, xs = np.mgrid[:height, :width]
    centre = (rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width)
    distance = np.hypot((ys - centre[0]) / height, (xs - centre[1]) / width) + 0.1 * noise / noise.std()
    truth = distance < np.quantile(distance, share)
    found = cv2.GaussianBlur((truth & (noise < noise.std())).astype(np.float64), (0, 0), 3)
    found = found + 0.1 * np.abs(cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 5)) * 5
    return np.clip(200 * found + rng.normal(0, 2, truth.shape), 0, 255).astype(np.uint8), truth.astype(np.uint8) * 255


def ours(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, list[dict[str, float]]]:
    """Return milliseconds an image, and the scores."""
    began = time.perf_counter()
    found = [camouflage_scores(*pair) for pair in pairs]
    return 1000 * (time.perf_counter() - began) / len(pairs), found


def compare(python: str | None, images: int, rounds: int) -> None:
    """Print a line a size."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    process = None
    if python is not None:
        if not Path(python).is_file():
            raise UserError(f'--pysodmetrics-python: expected a Python with pysodmetrics, found no file {python}')
        process = subprocess.Popen([python, '-c', THEIRS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    else:
        print('PySODMetrics is not run here (--pysodmetrics-python): its figures are of another run, elsewhere')
    worst = 0.0
    print(f'{"height x width":>15}{"here ms":>10}{"PySODMetrics ms":>17}{"ratio":>8}')
    try:
        with tempfile.TemporaryDirectory() as folder:
            for height, width in SIZES:
                pairs = [image(rng, height, width, share) for share in np.geomspace(0.01, 0.4, images)]
                path = Path(folder) / f'{height}.npz'
                np.savez(path, **{f'pred_{i}': pair[0] for i, pair in enumerate(pairs)},
                         **{f'gt_{i}': pair[1] for i, pair in enumerate(pairs)})
                own, other = [], []
                ours(pairs[:1])
                for _ in range(rounds):
                    spent, scores = ours(pairs)
                    own.append(spent)
                    if process is not None:
                        spent, theirs = _ask(process, path)
                        other.append(spent)
                        worst = max([worst, *(abs(mine[key] - value) for mine, one in zip(scores, theirs)
                                              for key, value in one.items())])
                reference = median(other) if other else ELSEWHERE[height, width]
                ratio = median(a / b for a, b in zip(own, other)) if other else median(own) / reference
                print(f'{f"{height} x {width}":>15}{median(own):>10.1f}{reference:>17.1f}{ratio:>8.3f}')
    finally:
        if process is not None:
            process.stdin.close()
            process.wait()
    if process is not None:
        print(f'largest difference of a score: {worst:.1e}')


def _ask(process: subprocess.Popen, path: Path) -> tuple[float, list[dict[str, float]]]:
    try:
        process.stdin.write(f'{path}\n')
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has said why on standard error
    answer = process.stdout.readline()
    if not answer:
        raise UserError(f'--pysodmetrics-python: {process.args[0]} could not score with py_sod_metrics')
    return json.loads(answer)


def main() -> None:
    parser = Parser(description='Time of the camouflage measures against PySODMetrics.')
    parser.add_argument('--pysodmetrics-python', metavar='PATH', help='a Python that has pysodmetrics')
    parser.add_argument('--images', type=int, default=4, help='images a size (default: 4)')
    parser.add_argument('--rounds', type=int, default=5, help='turns (default: 5)')
    args = parser.parse_args()
    if min(args.images, args.rounds) < 1:
        raise UserError(f'--images, --rounds: expected at least 1, found {min(args.images, args.rounds)}')
    compare(args.pysodmetrics_python, args.images, args.rounds)


if __name__ == '__main__':
    run(main)
