"""The two tables of seed 001: how many images have which weight, and how hard each class is."""

import math
from collections import Counter
from collections.abc import Mapping

from projects.evaluation.tables import percent, text_table
from projects.multistage.difficulty import Difficulty

HARD = 0.5  # IoU below which the seed calls a sample hard for a class


def weight_rows(weights: Mapping[str, float]) -> list[tuple[str, int, float]]:
    """Return (weight, samples, share of the samples), ascending; more than 12 different weights are put in ranges."""
    counts = Counter(round(weight, 4) for weight in weights.values())
    if len(counts) > 12:
        bins = Counter(min(math.floor(weight), math.ceil(max(counts)) - 1) for weight in weights.values())
        named = [(f'{low}–{low + 1}x', number) for low, number in sorted(bins.items())]
    else:
        named = [(f'{weight:.1f}x' if round(weight, 1) == weight else f'{weight:g}x', number)
                 for weight, number in sorted(counts.items())]
    return [(name, number, number / len(weights)) for name, number in named]


def class_rows(difficulty: Difficulty, weights: Mapping[str, float], hard: float = HARD
               ) -> list[tuple[str, int, int, float, float]]:
    """Return (class, hard samples, samples with the class, share, mean weight of those), the hardest class first."""
    rows = []
    for label in difficulty.classes:
        names = [name for name, sample in difficulty.samples.items() if label in sample.iou]
        if names:
            bad = sum(difficulty.samples[name].iou[label] < hard for name in names)
            rows.append((label, bad, len(names), bad / len(names), sum(weights[name] for name in names) / len(names)))
    return sorted(rows, key=lambda row: -row[3])


def tables(difficulty: Difficulty, weights: Mapping[str, float]) -> str:
    """Return both tables and the length of an epoch as plain text."""
    by_weight = text_table(('Weight', 'Samples', 'Percentage'), [
        (name, f'{number:,}', percent(share)) for name, number, share in weight_rows(weights)])
    by_class = text_table(('Class', 'Hard samples', 'Total', 'Difficulty', 'Avg repetition'), [
        (label, f'{bad}/{total}', str(total), percent(share), f'{mean:.2f}x')
        for label, bad, total, share, mean in class_rows(difficulty, weights)])
    total = math.fsum(weights.values())
    return (f'Weights\n{by_weight}\n\nDifficulty by class (IoU < {HARD})\n{by_class}\n\n'
            f'Unique images: {len(weights):,}\nEffective samples per epoch: {math.floor(total + 0.5):,} '
            f'({total / len(weights):.2f}x multiplication)')
