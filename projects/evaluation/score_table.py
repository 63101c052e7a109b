"""A table of a task's own scores by group of images: beside what every segmentation is scored with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import write_json, write_text
from projects.evaluation.folder import read_json
from projects.evaluation.tables import csv_table, plain, text_table

KIND = 'score table'  # tells these JSON files from others in an evaluation's folder


@dataclass(frozen=True)
class Score:
    """One column."""

    name: str
    meaning: str = ''  # a few words
    smaller_is_better: bool = False


@dataclass
class ScoreTable:
    """Scores of all images, of groups of them, and of each one."""

    name: str  # the stem of its files
    title: str
    scores: tuple[Score, ...]
    groups: list[dict[str, Any]]  # group, images and the scores; the first row is all images
    images: list[dict[str, Any]] = field(default_factory=list)  # sample_id and the scores, and what else is known
    noun: str = 'images'  # what they are: patches, tiles

    def text(self) -> str:
        """Return the groups as plain text for a log or a terminal."""
        return text_table(['group', self.noun, *(score.name for score in self.scores)], [
            [str(row['group']), f'{row["images"]:,}', *(_number(row[score.name]) for score in self.scores)]
            for row in self.groups])

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain values for JSON."""
        return {'kind': KIND, 'name': self.name, 'title': self.title,
                'scores': [vars(score) for score in self.scores], 'groups': self.groups, 'images': self.images,
                'noun': self.noun}


def write_score_table(table: ScoreTable, folder: str | Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write ``<name>.json`` (all of it, and ``facts``), ``<name>.csv`` (groups) and ``<name>_images.csv``."""
    folder = Path(folder)
    write_json(folder / f'{table.name}.json', plain({**(facts or {}), **table.to_dict()}))
    for stem, rows in ((table.name, table.groups), (f'{table.name}_images', table.images)):
        if rows:
            header = list(rows[0])
            write_text(folder / f'{stem}.csv', csv_table(header, [[row[key] for key in header] for row in rows]))


def read_score_tables(folder: str | Path) -> list[tuple[ScoreTable, dict[str, Any]]]:
    """Return the tables of an evaluation's folder with their facts, in the order of their names."""
    found = []
    for path in sorted(Path(folder).glob('*.json')):
        if f'"kind": "{KIND}"' not in path.read_text(encoding='utf-8', errors='replace'):
            continue  # a file of the evaluation itself
        value = read_json(path)
        try:
            scores = tuple(Score(**score) for score in value['scores'])
            table = ScoreTable(value['name'], value['title'], scores,
                               _numbers(value['groups'], scores), _numbers(value['images'], scores),
                               value.get('noun', ScoreTable.noun))
        except (KeyError, TypeError) as error:
            raise UserError(f'{path}: not a score table ({type(error).__name__}: {error})') from error
        found.append((table, {key: item for key, item in value.items() if key not in table.to_dict()}))
    return found


def _numbers(rows: Sequence[Mapping[str, Any]], scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Return rows as they were: JSON holds NaN as null."""
    return [{**row, **{one.name: math.nan for one in scores if row[one.name] is None}} for row in rows]


def _number(value: float) -> str:
    return '–' if math.isnan(value) else f'{value:.4f}'
