"""Sections on single images: pictures of predictions, the worst and the best, and what changed between stages."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.evaluation.comparison import Comparison
from projects.evaluation.gallery import file_stem
from projects.evaluation.report.page import Section, bar, change, embed_picture, note, picture, signed, table, text
from projects.evaluation.tables import percent
from projects.evaluation.workdir import Run


def gallery_files(folder: str | Path) -> dict[str, Path]:
    """Return the pictures of a gallery folder by their stem.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such gallery folder')
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in ('.png', '.jpg', '.jpeg')}
    if not files:
        raise UserError(f'{folder}: no PNG or JPEG pictures for the gallery')
    return files


def gallery_section(run: Run, files: Mapping[str, Path], limit: int) -> list[Section]:
    """Return pictures of one run, from its best to its worst image."""
    scored = {file_stem(str(row['sample_id'])): row['mIoU'] for row in _samples(run)}
    scored = {stem: value for stem, value in scored.items() if stem in files and not math.isnan(value)}
    chosen = choose(scored, list(files), limit)
    items = []
    for stem, kind in chosen:
        about = [kind] if kind else []
        if stem in scored:
            about.append(f'mIoU {percent(scored[stem])}')
        caption = f'{stem} ({", ".join(about)})' if about else stem
        items.append(picture(embed_picture(files[stem], 1600), f'prediction for {stem}', caption))
    more = note(f'{len(chosen)} of {len(files)} pictures.') if len(files) > len(chosen) else ''
    return [('gallery', 'Predictions', f'<div class="gallery">{"".join(items)}</div>{more}')]


def choose(scored: Mapping[str, float], stems: list[str], limit: int) -> list[tuple[str, str]]:
    """Pick the best and the worst and evenly between them, or evenly where nothing is scored."""
    if len(scored) < 3:
        step = max(len(stems) / max(limit, 1), 1)
        return [(stems[int(i * step)], '') for i in range(min(limit, len(stems)))]
    order = sorted(scored, key=lambda stem: (-scored[stem], stem))
    number = min(limit, len(order))
    if number == len(order):
        return [(stem, 'best' if i == 0 else 'worst' if i == number - 1 else '') for i, stem in enumerate(order)]
    spots = sorted({round(i * (len(order) - 1) / max(number - 1, 1)) for i in range(number)})
    return [(order[i], 'best' if i == 0 else 'worst' if i == len(order) - 1 else '') for i in spots]


def sample_section(run: Run) -> list[Section]:
    """Return tables of the worst and the best images of one run."""
    rows = [row for row in _samples(run) if not math.isnan(row['mIoU'])]
    if len(rows) < 4:
        return []
    number = min(5, len(rows) // 2)

    def some(title: str, rows: Iterable[Mapping[str, Any]]) -> str:
        return table([title, '<th scope="col" class="bar">mIoU</th>', 'accuracy'], [
            f'<th scope="row">{text(row["sample_id"])}</th><td class="bar">{bar(row["mIoU"])}</td>'
            f'<td>{percent(row["OA"])}</td>' for row in rows])

    noun = next(iter(run.evaluations.values()))[0].nouns[0]
    body = f'<div class="pair">{some(f"worst {noun}", rows[:number])}{some(f"best {noun}", rows[::-1][:number])}</div>'
    return [('samples', f'Worst and best {noun}', body)]


def _samples(run: Run) -> list[dict[str, Any]]:
    for name in ('test', *run.evaluations):
        if name in run.evaluations and run.evaluations[name][0].samples:
            return run.evaluations[name][0].samples
    return []


def changed_section(comparison: Comparison, number: int = 5) -> list[Section]:
    """Return tables of the images that gained and lost most between the first and the last stage, and the worst."""
    stages = comparison.scored
    if len(stages) < 2 or comparison.obstacle:
        return []
    scores = [stage.samples(comparison.split) for stage in stages]
    shared = [name for name in scores[-1] if all(name in some for some in scores)]
    if len(shared) < 4:
        return []

    def difference(name: str) -> float:
        return scores[-1][name] - scores[0][name]

    def some(title: str, names: Sequence[str]) -> str:
        head = [text(title), *(f'<th scope="col">{text(stage.label)}</th>' for stage in stages),
                '<th scope="col">change</th>']
        return table(head, [
            f'<th scope="row">{text(name)}</th>' + ''.join(f'<td>{percent(score[name])}</td>' for score in scores)
            + f'<td>{change(difference(name))}</td>' for name in names])

    order = sorted(shared, key=difference)
    number = min(number, len(shared) // 2)
    gained = [name for name in order[::-1][:number] if difference(name) > 0]
    lost = [name for name in order[:number] if difference(name) < 0]
    by_last = sorted(shared, key=lambda name: scores[-1][name])
    tables = [some('gained most', gained)] if gained else []
    tables += [some('lost most', lost)] if lost else []
    tables += [some(f'worst in {stages[-1].label}', by_last[:number]),
               some(f'best in {stages[-1].label}', by_last[::-1][:number])]
    body = f'<p class="intro">Mean IoU of single images.</p><div class="pair">{"".join(tables)}</div>'
    return [('samples', 'Images: gains and losses, worst and best', body)]


def compared_gallery_section(comparison: Comparison, galleries: Sequence[tuple[str, Mapping[str, Path]]],
                             limit: int) -> list[Section]:
    """Return pictures of the same image by several stages below each other, from the largest gain to the largest loss.

    Args:
        comparison: the stages.
        galleries: label of the stage and its pictures by stem, in the order to show.
        limit: at most so many images.
    """
    scores = {stage.label: {file_stem(name): value for name, value in stage.samples(comparison.split).items()}
              for stage in comparison.scored}
    shared = [stem for stem in galleries[-1][1] if all(stem in files for _, files in galleries)]
    if not shared:
        raise UserError('galleries: no picture has the same name in all of them')
    first, last = comparison.scored[0].label if scores else '', galleries[-1][0]
    gains: dict[str, float] = {}
    if len(scores) > 1 and not comparison.obstacle and last in scores:
        gains = {stem: scores[last][stem] - scores[first][stem] for stem in shared
                 if stem in scores[last] and stem in scores[first]}
    ranked = gains or {stem: scores[last][stem] for stem in shared if stem in scores.get(last, {})}
    chosen = [stem for stem, _ in choose(ranked, shared, limit)]
    items = []
    for stem in chosen:
        heading = text(stem) + (f' <span class="none">{text(signed(gains[stem]))} points</span>'
                                if stem in gains else '')
        pictures = ''
        for label, files in galleries:
            value = scores.get(label, {}).get(stem)
            caption = label + (f' (mIoU {percent(value)})' if value is not None else '')
            pictures += picture(embed_picture(files[stem], 1600), f'{label}: prediction for {stem}', caption)
        items.append(f'<div class="sample"><h3>{heading}</h3>{pictures}</div>')
    intro = ('<p class="intro">From the largest gain to the largest loss.</p>' if gains else '')
    more = note(f'{len(chosen)} of {len(shared)} images.') if len(shared) > len(chosen) else ''
    return [('gallery', 'Predictions', f'{intro}<div class="gallery">{"".join(items)}</div>{more}')]
