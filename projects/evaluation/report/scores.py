"""Sections on the scores of one run: the answer, headline tiles, classes, confusion, confidence."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from projects.evaluation.curves import finite
from projects.evaluation.gallery import distinct_palette, file_stem
from projects.evaluation.plots import plot_reliability
from projects.evaluation.report.page import Section, bar, drawing, note, table, text, together
from projects.evaluation.result import Evaluation
from projects.evaluation.tables import percent
from projects.evaluation.workdir import Run

SPLITS = {'test': 'Test', 'val': 'Validation'}
MANY = 12  # classes: a larger matrix has the page for itself
TILES = (
    ('mIoU', 'mean IoU', 'over the classes that occur in truth or prediction'),
    ('mIoU_foreground', 'foreground IoU', 'mean IoU without {background}'),
    ('mF1', 'mean F1', 'harmonic mean of precision and recall'),
    ('OA', 'overall accuracy', 'share of {pixels} that are right'),
    ('mAcc', 'mean accuracy', 'mean recall of the true classes'),
    ('ECE', 'calibration error', 'distance of confidence from accuracy; lower is better'),
)


def answer(run: Run) -> str:
    """Return the first sentences of a page on one run: how good it is, what it knows best and least."""
    if not run.evaluations and run.tables:
        return f'<p class="answer">{_answer_of_task(next(iter(run.tables)), run)}</p>'
    if not run.evaluations:
        return '<p class="answer">Not evaluated yet: there are curves, and no scores.</p>' if run.curves else \
            '<p class="answer">Nothing was logged and nothing was evaluated yet.</p>'
    name, (evaluation, _) = next(iter(run.evaluations.items()))
    where = _samples_of(name, evaluation.nouns[0])
    own = name in run.tables and run.tables[name][0][0].scores[0].name != 'mIoU'  # else it would be said twice
    sentences = [_answer_of_task(name, run)] if own else []
    sentences += [f'Mean IoU is <b>{percent(evaluation.scores.mean_iou)}</b> on {len(evaluation.samples):,} '
                  f'{text(where)}.']
    rows = [(row['IoU'], index, row['class']) for index, row in enumerate(evaluation.scores.per_class())
            if not math.isnan(row['IoU']) and row['truth_pixels']]
    if len(rows) > 1:
        best, worst = max(rows), min(rows)
        sentences.append(f'It knows <b>{text(best[2])}</b> best ({percent(best[0])}) and <b>{text(worst[2])}</b> least '
                         f'({percent(worst[0])}{_mistaken(evaluation, worst[1])}).')
    if points := finite(run.curves.validation.get('mIoU', [])):
        step, value = max(points, key=lambda point: point[1])
        last = points[-1][0]
        where = 'at its end' if step == last else f'at iteration {step:,} of {last:,}'
        sentences.append(f'The validation was best {where} ({percent(value)}).')
    return f'<p class="answer">{together(" ".join(sentences))}</p>'


def _answer_of_task(split: str, run: Run) -> str:
    """Say the first score of a split's first score table."""
    found, _ = run.tables[split][0]
    row, score = found.groups[0], found.scores[0]
    meaning = f' ({text(score.meaning)})' if score.meaning else ''
    return (f'{text(found.title)}: {text(score.name)}{meaning} is <b>{row[score.name]:.3f}</b> on {row["images"]:,} '
            f'{text(_samples_of(split, found.noun))}.')


def _samples_of(split: str, noun: str) -> str:
    return {'test': f'test {noun}', 'val': f'validation {noun}'}.get(split, f'{noun} of {split}')


def _mistaken(evaluation: Evaluation, index: int) -> str:
    row = evaluation.confusion[index].copy()
    row[index] = 0
    other = int(row.argmax())
    truth = int(evaluation.scores.truth_pixels[index])
    if not truth or row[other] < 0.1 * truth:
        return ''
    return f'; {percent(row[other] / truth, 0)} of it is taken for {text(evaluation.classes[other])}'


def score_sections(run: Run) -> list[Section]:
    """Return tiles, classes, confusion and confidence for each split; a validation beside a test is a footnote."""
    sections: list[Section] = []
    shown = list(run.evaluations)
    if 'test' in shown and 'val' in shown:
        shown.remove('val')
    for name in shown:
        evaluation, facts = run.evaluations[name]
        before = f'{SPLITS.get(name, name)}: ' if len(shown) > 1 else ''
        anchor = file_stem(name)
        body = _tiles(evaluation) + basis(evaluation, facts)
        if name == 'test' and 'val' in run.evaluations:
            body += _beside(*run.evaluations['val'])
        sections.append((f'scores-{anchor}', f'{SPLITS.get(name, name)} scores', body))
        sections.append((f'classes-{anchor}', f'{before}Classes', _class_table(evaluation)))
        sections.append((f'confusion-{anchor}', f'{before}Confusion', _confusion(evaluation)))
        if evaluation.calibration is not None and evaluation.calibration.count.sum():
            calibration, counted = evaluation.calibration, evaluation.nouns[1]
            diagram = drawing(partial(plot_reliability, calibration, '', counted=counted), 'reliability diagram',
                              width=480)
            sections.append((
                f'confidence-{anchor}', f'{before}Confidence',
                f'<div class="beside">{diagram}'
                '<div><p>Can the network be believed when it is sure? A calibrated one is right in 80 % of the '
                f'{text(counted)} where it is 80 % sure: its bars end on the dashed line.</p><p>Bars that end below '
                'the line mean that it is too sure of itself.</p></div></div>'))
    return sections


def _tiles(evaluation: Evaluation) -> str:
    summary = evaluation.summary()
    background = evaluation.classes[evaluation.background] if evaluation.background is not None else None
    tiles = []
    for key, label, hint in TILES:
        if key not in summary or (key == 'mIoU_foreground' and background is None):
            continue
        hint = hint.format(background=background, pixels=evaluation.nouns[1])
        main = ' class="tile main"' if key == 'mIoU' else ' class="tile"'
        tiles.append(f'<div{main}><span class="label">{text(label)}</span>'
                     f'<span class="value">{percent(summary[key])}</span>'
                     f'<span class="hint">{text(hint)}</span></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def basis(evaluation: Evaluation, facts: Mapping[str, Any]) -> str:
    """Return a line that says what the scores were counted on."""
    samples, counted = evaluation.nouns
    parts = [f'{len(evaluation.samples):,} {samples}', f'{evaluation.pixels:,} labelled {counted}']
    if evaluation.missed is not None:
        parts.append(f'{int(evaluation.missed.sum()):,} of them without a prediction, counted as wrong')
    if facts.get('checkpoint'):
        parts.append(f'checkpoint {facts["checkpoint"]}')
    if facts.get('step'):
        parts.append(str(facts['step']).replace('_', ' '))
    return note(' · '.join(parts))


def _beside(evaluation: Evaluation, facts: Mapping[str, Any]) -> str:
    cells = ' · '.join(f'{name} {percent(value)}' for name, value in evaluation.summary().items())
    step = f' ({str(facts["step"]).replace("_", " ")})' if facts.get('step') else ''
    return note(f'Latest validation{step}: {cells}')


def swatch(colour: Sequence[int]) -> str:
    """Return a small square of a class's colour."""
    return f'<span class="swatch" style="background:rgb{tuple(colour)}"></span>'


def _class_table(evaluation: Evaluation) -> str:
    palette = evaluation.palette or distinct_palette(len(evaluation.classes))
    total = max(evaluation.pixels, 1)
    rows = [
        f'<th scope="row">{swatch(palette[i])}{text(row["class"])}</th><td class="bar">{bar(row["IoU"])}</td>'
        + ''.join(f'<td>{percent(row[key])}</td>' for key in ('F1', 'precision', 'recall'))
        + f'<td>{percent(row["truth_pixels"] / total)}</td>'
        for i, row in enumerate(evaluation.scores.per_class())]
    head = ['class', '<th scope="col" class="bar">IoU</th>', 'F1', 'precision', 'recall', 'share of truth']
    missing = [row['class'] for row in evaluation.scores.per_class() if math.isnan(row['IoU'])]
    return table(head, rows) + (
        note(f'{", ".join(missing)}: in neither truth nor prediction, left out of the means.') if missing else '')


def _confusion(evaluation: Evaluation) -> str:
    """Return the confusion matrix and what to read from it: beside it, of many classes below."""
    words = 'Each row is a true class, each column what the network made of it, in percent of the row.'
    costly = _largest_confusions(evaluation)
    if len(evaluation.classes) <= MANY:
        return ('<div class="beside"><div class="main">'
                + confusion_table(evaluation.confusion, evaluation.classes, evaluation.missed, evaluation.nouns[1])
                + f'</div><div><p>{words}</p>{costly}</div></div>')
    used = np.flatnonzero(evaluation.confusion.sum(axis=0) + evaluation.scores.truth_pixels)
    return f'<p>{words} Empty cells are 0; classes in neither are left out.</p>' + confusion_table(
        evaluation.confusion[np.ix_(used, used)], [evaluation.classes[k] for k in used],
        None if evaluation.missed is None else evaluation.missed[used], evaluation.nouns[1]) + costly


def confusion_table(confusion: np.ndarray, classes: Sequence[str], missed: np.ndarray | None = None,
                    counted: str = 'pixels') -> str:
    """Return a confusion matrix ``(C, C)`` as a table: colour and percent by row, the count on hover."""
    share, unit, many = row_shares(confusion, missed), _short(counted), len(classes) > MANY

    def cell(t: int, p: int) -> tuple[str, str, str]:
        value = share[t, p]
        if math.isnan(value):
            return '', '', ''
        shown = '' if many and t != p and not confusion[t, p] else _small_percent(value, int(confusion[t, p]))
        return (shown, f'--s:{100 * value:.0f}%',
                f'{classes[t]} taken for {classes[p]}: {int(confusion[t, p]):,} {unit}' if t != p else
                f'{classes[t]}, right: {int(confusion[t, p]):,} {unit}')

    return matrix(classes, cell, 'confusion many' if many else 'confusion')


def matrix(classes: Sequence[str], cell: Any, kind: str) -> str:
    """Return a square table of classes; ``cell(truth, prediction)`` gives text, style and words on hover."""
    head = '<th class="corner" scope="col">truth ↓ &nbsp;prediction →</th>' + ''.join(
        f'<th scope="col"><span>{text(name)}</span></th>' for name in classes)
    rows = []
    for t, name in enumerate(classes):
        cells = ''
        for p in range(len(classes)):
            shown, style, hover = cell(t, p)
            strong = ' dense' if style.startswith('--s:') and int(style[4:-1]) > 55 else ''
            cells += (f'<td class="{"own" if t == p else "off"}{strong}"'
                      + (f' style="{style}"' if style else '') + (f' title="{text(hover)}"' if hover else '')
                      + f'>{shown}</td>')
        rows.append(f'<tr><th scope="row">{text(name)}</th>{cells}</tr>')
    return (f'<div class="scroll"><table class="matrix {kind}"><thead><tr>{head}</tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div>')


def row_shares(confusion: np.ndarray, missed: np.ndarray | None = None) -> np.ndarray:
    """Return each cell's share of its true class ``(C, C)``; missed pixels belong to the whole; NaN without truth."""
    total = confusion.sum(axis=1, keepdims=True)
    if missed is not None:
        total = total + missed[:, None]
    return np.divide(confusion, total, out=np.full(confusion.shape, math.nan), where=total > 0)


def _short(counted: str) -> str:
    return 'px' if counted == 'pixels' else counted


def _small_percent(value: float, count: int) -> str:
    """Round for a small cell; never show a non-zero count as 0, nor 99.97 as 100."""
    if not count:
        return '<span class="none">0</span>'
    if value < 0.0005:
        return '&lt;0.1'
    return '&gt;99.9' if 0.9995 <= value < 1 else f'{100 * value:.1f}'.removesuffix('.0')


def _largest_confusions(evaluation: Evaluation, number: int = 5) -> str:
    """List the pairs of classes that cost most."""
    confusion, truth = evaluation.confusion, evaluation.scores.truth_pixels
    pairs = sorted(
        ((int(confusion[t, p]), t, p) for t in range(len(confusion)) for p in range(len(confusion))
         if t != p and confusion[t, p]), reverse=True)[:number]
    if not pairs:
        return ''
    unit = _short(evaluation.nouns[1])
    items = ''.join(
        f'<li><b>{text(evaluation.classes[t])}</b> taken for <b>{text(evaluation.classes[p])}</b><br>'
        f'<span class="none">{count:,} {unit}, {percent(count / int(truth[t]))} of its truth</span></li>'
        for count, t, p in pairs)
    return f'<p>The costliest confusions:</p><ol>{items}</ol>'
