"""Sections that set stages beside each other: the answer, headline scores, classes, confusion, curves."""

import math

import numpy as np

from projects.evaluation.comparison import (
    HEADLINE,
    SMALLER_IS_BETTER,
    Comparison,
    Stage,
    better_and_worse,
    noise,
)
from projects.evaluation.config_difference import config_differences
from projects.evaluation.gallery import distinct_palette
from projects.evaluation.plots import curve_figures
from projects.evaluation.report.page import Section, change, note, panels, signed, table, text, together
from projects.evaluation.report.score_tables import task_scores
from projects.evaluation.report.scores import TILES, basis, confusion_table, matrix, row_shares, swatch
from projects.evaluation.tables import percent

SPLITS = {'test': 'the test images', 'val': 'the validation images'}


def answer(comparison: Comparison) -> str:
    """Return the first sentences of the page: which stage is best, by how much, and whether that is more than noise."""
    if not comparison.scored:
        return '<p class="answer">None of these runs was evaluated yet: there are curves, and no scores.</p>'
    where = SPLITS.get(comparison.split, f'the images of {comparison.split}')
    if len(comparison.stages) == 1 and (spread := comparison.stages[0].spread(comparison.split, HEADLINE)):
        scatter = f' ± {100 * spread.deviation:.1f} points' if spread.deviation is not None else ''
        low, high = percent(min(spread.values)), percent(max(spread.values))
        basis = (f'over {len(spread.values)} of {len(comparison.stages[0].runs)} runs that differ in the seed alone '
                 f'({low} to {high})' if len(spread.values) > 1 else
                 'in the first of several runs with the same seed: how much another seed would change is not known')
        words = (f'<b>{text(comparison.stages[0].label)}</b> repeated: mean IoU <b>{percent(spread.mean)}</b>{scatter} '
                 f'on {text(where)}, {basis}.')
        return f'<p class="answer">{together(words)}</p>'
    best = comparison.best()
    if best is None:
        reason = (f'{comparison.obstacle}, so their numbers must not be subtracted' if comparison.obstacle
                  else f'only {comparison.scored[0].label} was evaluated on {where}')
        return f'<p class="answer">No comparison of scores: {text(reason)}.</p>'
    spreads = {stage.label: stage.spread(comparison.split, HEADLINE) for stage in comparison.scored}
    spreads = {label: spread for label, spread in spreads.items() if spread}
    others = sorted((label for label in spreads if label != best.label), key=lambda label: -spreads[label].mean)
    second = next(stage for stage in comparison.scored if stage.label == others[0])
    own, other = spreads[best.label], spreads[second.label]
    difference = own.mean - other.mean
    next_best = ', the next best' if len(others) > 1 else ''
    by = f'{100 * difference:.1f} points above' if difference >= 0.0005 else 'level with'
    words = [f'<b>{text(best.label)}</b> is best: mean IoU <b>{percent(own.mean)}</b> on {text(where)}, '
             f'{by} <b>{text(second.label)}</b>{next_best} ({percent(other.mean)}).']
    first, last = comparison.scored[0], comparison.scored[-1]
    if comparison.chain and len(comparison.scored) > 2 and {first.label, last.label} <= set(spreads):
        whole = spreads[last.label].mean - spreads[first.label].mean
        words.append(f'From {text(first.label)} to {text(last.label)} the chain changed it by '
                     f'<b>{signed(whole)} points</b>.')
    if comparison.chain or len(comparison.scored) == 2:
        words.append(_classes_in_short(comparison))
    return (f'<p class="answer">{together(" ".join(filter(None, words)))}</p>'
            f'<p class="doubt">{_doubt(comparison, best, second)}</p>' + _unscored(comparison, where))


def _classes_in_short(comparison: Comparison) -> str:
    """Name the class that gained and the one that lost most between the first and the last stage."""
    first, last = comparison.scored[0], comparison.scored[-1]
    delta = last.class_iou(comparison.split) - first.class_iou(comparison.split)
    found = sorted((float(value), name) for value, name in
                   zip(delta, first.evaluations(comparison.split)[0].classes) if not math.isnan(value))
    if len(found) < 2:
        return ''
    parts = []
    if found[-1][0] >= 0.0005:
        parts.append(f'<b>{text(found[-1][1])}</b> gained most ({signed(found[-1][0])})')
    if found[0][0] <= -0.0005:
        parts.append(f'<b>{text(found[0][1])}</b> lost most ({signed(found[0][0])})')
    return f'{", ".join(parts)}.' if parts else ''


def _doubt(comparison: Comparison, best: Stage, second: Stage) -> str:
    """Say what speaks for and against the difference."""
    own, other = (stage.spread(comparison.split, HEADLINE) for stage in (best, second))
    found = noise(own, other)
    if found.clear is not None:
        runs = ' and '.join(f'{count} run{"s" * (count > 1)} of {label}'
                            for count, label in zip(found.runs, (best.label, second.label)))
        error = f'by seed alone such a difference scatters by ±{100 * found.error:.1f} points ({runs})'
        if found.clear:
            words = f'That is more than noise: {error}.'
        else:
            words = f'That is within noise: {error}. It says nothing about which is better.'
        if 1 in found.runs:
            words += ' The one that ran once is taken to scatter like the other.'
        return text(words)
    up, down, shared = better_and_worse(best.samples(comparison.split), second.samples(comparison.split))
    words = f'Each {comparison.noun} ran once: how much another seed would change is not known.'
    if shared > 1:
        words = (f'Image by image {best.label} is better on {up} of {shared} and worse on {down}. ' + words)
    return text(words)


def _unscored(comparison: Comparison, where: str) -> str:
    left = [stage.label for stage in comparison.stages if stage not in comparison.scored]
    return note(f'Not evaluated on {where}: {", ".join(left)}.') if left else ''


def stage_section(comparison: Comparison) -> list[Section]:
    """Return the table of headline scores, each with its difference to the stage before and the best one marked."""
    if not comparison.scored:
        return []
    split = comparison.split
    keys = [(key, label) for key, label, _ in TILES
            if any(stage.spread(split, key) for stage in comparison.scored)]
    if not any(one.background is not None for stage in comparison.scored for one in stage.evaluations(split)):
        keys = [(key, label) for key, label in keys if key != 'mIoU_foreground']
    best = {key: comparison.best(key) for key, _ in keys}
    rows = []
    before: Stage | None = None
    for number, stage in enumerate(comparison.stages):
        cells = f'<th scope="row">{_key(number)}{text(stage.label)}<br>{_about(stage)}</th>'
        for key, label in keys:
            spread = stage.spread(split, key) if stage in comparison.scored else None
            earlier = before.spread(split, key) if before else None
            named = f'data-label="{text(label)}"'  # a phone shows no header row
            cells += f'<td {named}>–</td>' if spread is None else (
                f'<td {named} class="{"best" if best[key] is stage else "plain"}">'
                f'<span class="score">{percent(spread.mean)}</span>'
                + (f'<br><small>± {100 * spread.deviation:.1f}</small>' if spread.deviation is not None else '')
                + (f'<br><small>{change(spread.mean - earlier.mean, smaller_is_better=key in SMALLER_IS_BETTER)}'
                   '</small>' if earlier and not comparison.obstacle else '') + '</td>')
        rows.append(cells)
        before = stage if stage in comparison.scored else before
    evaluation = comparison.scored[-1].evaluations(split)[0]
    words = ''
    if not comparison.obstacle and len(comparison.scored) > 1:
        words = ('<p class="note">The best of a column is <span class="best"><span class="score">marked</span></span>. '
                 'Below a score: its difference to the one before, in percentage points'
                 + (', and ± the scatter between seeds' if any(len(stage.runs) > 1 for stage in comparison.stages)
                    else '') + '.</p>')
    head = [comparison.noun, *(text(label) for _, label in keys)]
    return [('stages', f'{comparison.noun}s'.capitalize(), table(head, rows, 'stages')
             + words + basis(evaluation, {}))]


def _about(stage: Stage) -> str:
    parts = [stage.runs[0].name] if stage.runs[0].name != stage.label else []
    if len(stage.runs) > 1:
        seeds = [run.seed for run in stage.runs]
        parts.append('seeds ' + ', '.join(seeds) if all(seeds) and len(set(seeds)) == len(seeds)
                     else f'{len(stage.runs)} runs')
    return f'<span class="sub">{text(" · ".join(parts))}</span>' if parts else ''


def _key(number: int) -> str:
    """Return the short line in a stage's colour and style that stands for it in the drawings."""
    return f'<span class="line s{number % 6} d{number // 6 % 3}"></span>'


def class_section(comparison: Comparison) -> list[Section]:
    """Return each class's IoU by stage, the class that changed most first."""
    stages, split = comparison.scored, comparison.split
    if len(stages) < 2:
        return []
    evaluation = stages[0].evaluations(split)[0]
    if any(stage.evaluations(split)[0].classes != evaluation.classes for stage in stages):
        return [('classes', 'Classes', note('Left out: the stages have different classes.'))]
    values = [stage.class_iou(split) for stage in stages]
    palette = evaluation.palette or distinct_palette(len(evaluation.classes))
    differences = values[-1] - values[0]
    order = sorted(range(len(evaluation.classes)),
                   key=lambda index: (math.isnan(differences[index]), -abs(np.nan_to_num(differences[index]))))
    largest = max(float(np.nanmax(np.abs(differences))) if not np.isnan(differences).all() else 0.0, 1e-9)
    comparable = comparison.obstacle is None
    rows = []
    for index in order:
        cells = f'<th scope="row">{swatch(palette[index])}{text(evaluation.classes[index])}</th>'
        for number, value in enumerate(values):
            step = change(float(value[index] - values[number - 1][index])) if number and comparable and len(
                values) > 2 else ''
            cells += f'<td>{percent(float(value[index]))}' + (f'<br><small>{step}</small>' if step else '') + '</td>'
        if comparable:
            cells += f'<td class="bar difference">{_diverging(float(differences[index]), largest)}</td>'
        rows.append(cells)
    head = ['class', *(text(stage.label) for stage in stages)]
    if comparable:
        head.append(f'<th scope="col" class="bar difference">{text(stages[-1].label)} − {text(stages[0].label)}</th>')
    words = 'IoU of each class; the largest change stands first.' if comparable else f'{comparison.obstacle}.'
    return [('classes', 'Classes', f'<p class="intro">{text(words)}</p>' + table(head, rows))]


def _diverging(difference: float, largest: float) -> str:
    """Return a bar to the left or the right of a middle line, and the number."""
    if math.isnan(difference):
        return '<span class="none">–</span>'
    width = 50 * abs(difference) / largest
    left = 50 - width if difference < 0 else 50
    return (f'<span class="track both"><span class="{"loss" if difference < 0 else "gain"}" '
            f'style="margin-left:{left:.1f}%;width:{width:.1f}%"></span></span>'
            f'<span class="number">{change(difference)}</span>')


def confusion_section(comparison: Comparison) -> list[Section]:
    """Return the difference of the last and the first stage's confusion, then each stage's own."""
    stages, split = comparison.scored, comparison.split
    if not stages:
        return []
    found = [(stage.label, stage.evaluations(split)[0].classes, *stage.confusion(split)) for stage in stages]
    body = ''
    if len(found) > 1 and comparison.obstacle is None:
        classes = found[0][1]
        delta = row_shares(found[-1][2], found[-1][3]) - row_shares(found[0][2], found[0][3])

        def cell(t: int, p: int) -> tuple[str, str, str]:
            value = float(delta[t, p])
            if math.isnan(value):
                return '', '', ''
            good = value >= 0 if t == p else value <= 0
            shown = signed(value) if abs(value) >= 0.0005 else '<span class="none">±0.0</span>'
            tone = 'good' if good else 'bad'
            words = f'{classes[t]}, right' if t == p else f'{classes[t]} taken for {classes[p]}'
            return shown, f'--d:{min(300 * abs(value), 75):.0f}%;--tone:var(--{tone})', \
                f'{words}: {signed(value)} points'

        body += (f'<h3>{text(found[-1][0])} − {text(found[0][0])}</h3><p class="intro">Percentage points of each true '
                 'class. <span class="good">Green</span> is better: more on the diagonal, less beside it; '
                 '<span class="bad">orange</span> is worse.</p>' + matrix(classes, cell, 'delta'))
    own = ''.join(f'<div><h3>{text(label)}</h3>{confusion_table(confusion, classes, missed)}</div>'
                  for label, classes, confusion, missed in found)
    return [('confusion', 'Confusion', body + f'<div class="pair matrices">{own}</div>'
             + note('Each row is a true class, each column what the network made of it, in percent of the row.'))]


def config_section(comparison: Comparison, limit: int = 40) -> list[Section]:
    """Return the keys in which the configs differ, with each one's value."""
    known = [stage for stage in comparison.stages if stage.runs[0].config_text is not None]
    if len(known) < 2:
        return []
    found = config_differences([stage.runs[0].config_text for stage in known])
    if not found:
        return [('config', 'What differs', note('The configs are the same, but for seeds and folders.'))]
    rows = [f'<th scope="row"><code>{text(key)}</code></th>' + ''.join(
        f'<td class="words"><code>{text(_short(value))}</code></td>' if value is not None
        else '<td class="words none">–</td>' for value in values) for key, values in found[:limit]]
    head = ['key of the config', *(f'<th scope="col" class="words">{text(stage.label)}</th>' for stage in known)]
    more = note(f'And {len(found) - limit} more.') if len(found) > limit else ''
    return [('config', 'What differs', table(head, rows, 'configs') + more)]


def _short(value: str, limit: int = 120) -> str:
    return value if len(value) <= limit else value[:limit - 1] + '…'


def curve_section(comparison: Comparison) -> list[Section]:
    """Return the curves of all runs in one set of drawings, one colour a stage."""
    runs = [(number, run.curves) for number, stage in enumerate(comparison.stages) for run in stage.runs if run.curves]
    if not runs:
        return []
    legend = ''.join(f'<span class="key">{_key(number)}{text(stage.label)}</span>'
                     for number, stage in enumerate(comparison.stages))
    words = (f'Each {comparison.noun} counts its own iterations. Pale lines are single readings, strong ones their '
             'running mean.')
    if any(curves.starts for _, curves in runs):
        words += ' A dotted vertical line marks where a run was resumed.'
    silent = [run.work_dir.resolve().name for stage in comparison.stages for run in stage.runs if not run.curves]
    if silent:
        words += f' Nothing was logged in {", ".join(silent)}.'
    own = task_scores([run for stage in comparison.stages for run in stage.runs])
    drawn = panels(lambda theme: curve_figures(runs, theme, own))
    return [('curves', 'Training', f'<p class="keys first">{legend}</p>{drawn}' + note(words))]
