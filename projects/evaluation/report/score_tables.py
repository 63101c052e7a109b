"""Sections on a task's own scores, such as those of camouflaged objects: by group of images, or by stage."""

import math
from collections.abc import Sequence

from projects.evaluation.comparison import Comparison, Spread, Stage
from projects.evaluation.gallery import file_stem
from projects.evaluation.report.page import Section, note, table, text
from projects.evaluation.score_table import Score, ScoreTable
from projects.evaluation.workdir import Run

SPLITS = {'test': 'test', 'val': 'validation'}


def table_sections(run: Run) -> list[Section]:
    """Return the score tables of one run, one section each; of a validation only where there is no test."""
    shown = [name for name in run.tables if not (name == 'val' and 'test' in run.tables)]
    sections = []
    for split in shown:
        for found, facts in run.tables[split]:
            rows = [f'<th scope="row">{text(row["group"])}</th><td>{row["images"]:,}</td>'
                    + ''.join(f'<td>{_number(row[score.name])}</td>' for score in found.scores)
                    for row in found.groups]
            where = (SPLITS.get(split, split), facts.get('checkpoint'), str(facts.get('step') or '').replace('_', ' '))
            sections.append((f'{file_stem(found.name)}-{file_stem(split)}', found.title,
                             table(['group', text(found.noun), *_head(found.scores)], rows)
                             + note(' · '.join(filter(None, where)))
                             + _legend(found.scores)))
    return sections


def compared_sections(comparison: Comparison) -> list[Section]:
    """Return, for each score table that two stages share on one split, a row a stage: means over its runs.

    The best of a column is marked where the stages were scored on the same images.
    """
    sections = []
    for split, name in dict.fromkeys((split, found.name) for wanted in ('test', 'val') for stage in comparison.stages
                                     for run in stage.runs for split, tables in run.tables.items()
                                     for found, _ in tables if split == wanted):
        if any(anchor == f'{file_stem(name)}-compared' for anchor, _, _ in sections):
            continue  # the test is told, the validation is its footnote in each run's own report
        having = [(stage, found) for stage in comparison.stages if (found := _tables(stage, split, name))]
        if len(having) < 2 and len(comparison.stages) > 1:
            continue
        first = having[0][1][0]
        same = len({tuple(sorted(str(row['sample_id']) for row in one.images)) for _, found in having
                    for one in found}) == 1
        spreads = [[_spread(found, score.name) for score in first.scores] for _, found in having]
        rows = []
        for (stage, _), values in zip(having, spreads):
            rows.append(f'<th scope="row">{text(stage.label)}</th>' + ''.join(
                _cell(value, [row[column] for row in spreads], score, same and len(having) > 1)
                for column, (score, value) in enumerate(zip(first.scores, values))))
        words = f'All {len(first.images):,} {first.noun} of the {SPLITS[split]}.' if same else \
            f'The stages were scored on different {first.noun}: their numbers must not be subtracted.'
        sections.append((f'{file_stem(name)}-compared', first.title,
                         table([comparison.noun, *_head(first.scores)], rows) + note(words) + _legend(first.scores)))
    return sections


def task_scores(runs: Sequence[Run]) -> list[str]:
    """Return the names of the first scores of each table, whose curves are worth a drawing."""
    return list(dict.fromkeys(score.name for run in runs for tables in run.tables.values() for found, _ in tables
                              for score in found.scores[:3]))


def _tables(stage: Stage, split: str, name: str) -> list[ScoreTable]:
    return [found for run in stage.runs for found, _ in run.tables.get(split, []) if found.name == name]


def _spread(tables: Sequence[ScoreTable], score: str) -> Spread | None:
    values = tuple(value for found in tables if found.groups
                   and not math.isnan(value := found.groups[0].get(score, math.nan)))
    return Spread(values) if values else None


def _cell(value: Spread | None, column: Sequence[Spread | None], score: Score, mark: bool) -> str:
    if value is None:
        return '<td>–</td>'
    means = [other.mean for other in column if other]
    best = (min if score.smaller_is_better else max)(means)
    scatter = f'<br><small>± {value.deviation:.3f}</small>' if value.deviation is not None else ''
    kind = ' class="best"' if mark and value.mean == best else ''
    return f'<td{kind}><span class="score">{_number(value.mean)}</span>{scatter}</td>'


def _head(scores: Sequence[Score]) -> list[str]:
    return [f'{text(score.name)} {"↓" if score.smaller_is_better else "↑"}' for score in scores]


def _legend(scores: Sequence[Score]) -> str:
    words = '; '.join(f'{score.name}: {score.meaning}' for score in scores if score.meaning)
    return note(f'↑ larger is better, ↓ smaller is better. {words}'.strip())


def _number(value: float) -> str:
    return '–' if math.isnan(value) else f'{value:.3f}'
