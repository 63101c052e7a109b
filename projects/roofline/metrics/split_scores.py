"""The scores of a split, of groups of its images by the number of lines, and of each image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.evaluation.score_table import Score, ScoreTable
from projects.roofline.metrics.average_precision import pooled_average_precision
from projects.roofline.metrics.faces import face_f1
from projects.roofline.metrics.heat_map import heat_map_scores
from projects.roofline.metrics.image_scores import JUNCTION_THRESHOLDS, LINE_THRESHOLDS, OPERATING, ImageScores

LINE_BOUNDS = (10, 20)
SCORES = ('sAP10', 'sAP5', 'sAP15', 'msAP', 'sAP1', 'unverified/sAP10', 'mAPJ', 'APH', 'FH', 'F10', 'F10_score',
          'precision', 'recall', 'endpoint_error_px', 'endpoint_error_m', 'face_F1')
MEANINGS = {  # the first score leads the report
    'sAP10': 'structural AP of lines (%): squared distances of both ends below 10 together, at 128 scale',
    'sAP5': 'below 5', 'sAP15': 'below 15', 'msAP': 'mean of these three', 'sAP1': 'below 1',
    'unverified/sAP10': 'of pairs ranked by their junctions alone',
    'mAPJ': 'junction AP (%), mean over 0.5, 1 and 2 cells', 'APH': 'heat-map AP (%)', 'FH': 'best heat-map F (%)',
    'F10': 'best F of the lines at sAP10 over all thresholds (%)',
    'F10_score': 'the line score of this F, a threshold for tools/roofline/vectorize.py',
    'precision': 'of the lines above the threshold, at sAP10 (%)', 'recall': 'likewise',
    'endpoint_error_px': 'mean distance of the ends of the lines that hit', 'endpoint_error_m': 'in metres',
    'face_F1': 'of the faces between them, IoU at least 0.5 (%)'}
OPTIONAL = ('unverified/sAP10', 'APH', 'FH', 'endpoint_error_m', 'face_F1')  # only where the data give them


@dataclass(frozen=True)
class SampleScores:
    """One sample's part."""

    sample_id: str
    image: ImageScores
    img_path: str | None = None


def split_scores(images: Sequence[ImageScores]) -> dict[str, float]:
    """Return the measures of images, lines ranked over all of them; the order of images parts equal scores.

    Percent, 0..100, but for the endpoint errors (pixels, metres) and ``F10_score`` (0..1). NaN where there is nothing
    to measure: without true lines all, without lines that hit the endpoint errors. Images without true lines count
    through their false lines, in the ranking and in the precision. The optional ones (of unverified pairs, of heat
    maps, in metres, of faces) are of the images that have them, and NaN where none has.
    """
    truths = sum(image.lines for image in images)
    found = {f'sAP{threshold}': 100 * pooled_average_precision(
        [image.scores for image in images], [image.hits[index] for image in images], truths)
        for index, threshold in enumerate(LINE_THRESHOLDS)}
    found['msAP'] = float(np.mean([found[f'sAP{threshold}'] for threshold in (5, 10, 15)]))
    compared = [image for image in images if image.unverified_hits is not None]
    found['unverified/sAP10'] = 100 * pooled_average_precision(
        [image.unverified_scores for image in compared], [image.unverified_hits for image in compared],
        sum(image.lines for image in compared))
    junctions = sum(image.junctions for image in images)
    found['mAPJ'] = float(np.mean([100 * pooled_average_precision(
        [image.junction_scores for image in images], [image.junction_hits[index] for image in images], junctions)
        for index in range(len(JUNCTION_THRESHOLDS))]))
    heat = [image.heat for image in images if image.heat is not None]
    area, best = heat_map_scores(np.sum(heat, axis=0)) if heat else (math.nan, math.nan)
    found |= {'APH': 100 * area, 'FH': 100 * best} | _best_f(images, truths) | _at_threshold(images, truths)
    found['face_F1'] = 100 * face_f1(np.sum([image.faces for image in images], axis=0)) if images else math.nan
    return {name: found[name] for name in SCORES}


def score_table(samples: Sequence[SampleScores], bounds: Sequence[int] = LINE_BOUNDS) -> ScoreTable:
    """Return the table of samples, each given once: all, by the number of true lines, and each image.

    Samples are taken in the order of their ids, so that lines of equal score rank the same whatever the order of
    files or processes. Optional measures that no sample has are left out.

    Args:
        bounds: increasing numbers of lines that a group ends at.
    """
    samples = sorted(samples, key=lambda sample: sample.sample_id)
    names = [group_of(sample.image.lines, bounds) for sample in samples]
    groups = [_row({'group': 'all'}, [sample.image for sample in samples])]
    for name in group_names(bounds):
        members = [sample.image for sample, own in zip(samples, names) if own == name]
        if members:
            groups.append(_row({'group': name}, members))
    rows = [{'sample_id': sample.sample_id, 'lines': sample.image.lines, 'predicted': sample.image.above,
             **split_scores([sample.image]), 'img_path': sample.img_path} for sample in samples]
    missing = {name for name in OPTIONAL if all(math.isnan(row[name]) for row in rows)}
    columns = tuple(Score(name, MEANINGS.get(name, ''), smaller_is_better=name.startswith('endpoint'))
                    for name in SCORES if name not in missing)
    for row in (*groups, *rows):
        for name in missing:
            del row[name]
    return ScoreTable('wireframe', 'Roof wireframes', columns, groups, rows)


def group_names(bounds: Sequence[int] = LINE_BOUNDS) -> list[str]:
    """Return the names of the groups by the number of true lines, in their order."""
    starts = [1, *(bound + 1 for bound in bounds)]
    return ['no lines', *(f'{start}-{end} lines' for start, end in zip(starts, bounds)), f'{starts[-1]}+ lines']


def group_of(lines: int, bounds: Sequence[int] = LINE_BOUNDS) -> str:
    """Return the group of an image with so many true lines."""
    return group_names(bounds)[0 if lines == 0 else 1 + sum(lines > bound for bound in bounds)]


def _row(facts: dict, images: list[ImageScores]) -> dict:
    return {**facts, 'images': len(images), 'lines': sum(image.lines for image in images), **split_scores(images)}


def _best_f(images: Sequence[ImageScores], truths: int) -> dict[str, float]:
    """Return the best F of the lines that score at least as much as some line, and that line's score."""
    scores = np.concatenate([image.scores for image in images]) if images else np.zeros(0)
    if not len(scores) or not truths:
        return {'F10': 0.0 if truths else math.nan, 'F10_score': math.nan}
    order = np.argsort(-scores, kind='stable')
    scores, hits = scores[order], np.concatenate([image.hits[OPERATING] for image in images])[order]
    f = 2 * np.cumsum(hits) / (np.arange(1, len(hits) + 1) + truths)
    f[:-1][scores[1:] == scores[:-1]] = 0  # equal scores stand or fall together
    best = int(f.argmax())
    return {'F10': 100 * float(f[best]), 'F10_score': float(scores[best])}


def _at_threshold(images: Sequence[ImageScores], truths: int) -> dict[str, float]:
    """Return precision, recall and endpoint errors of the lines above the threshold, which come first."""
    hits = [image.hits[OPERATING, :image.above] for image in images]
    predicted, matched = sum(map(len, hits)), sum(int(hit.sum()) for hit in hits)
    errors = [image.errors[:image.above][hit] for image, hit in zip(images, hits)]
    metres = [error * image.resolution for image, error in zip(images, errors) if image.resolution is not None]
    return {'precision': 100 * matched / max(predicted, 1) if truths else math.nan,
            'recall': 100 * matched / truths if truths else math.nan,
            'endpoint_error_px': _mean(errors), 'endpoint_error_m': _mean(metres)}


def _mean(parts: list[np.ndarray]) -> float:
    values = np.concatenate(parts) if parts else np.zeros(0)
    return float(values.mean()) if len(values) else math.nan
