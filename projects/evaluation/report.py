"""One HTML page about a run: self-contained, without scripts, for a light or a dark screen."""

import base64
import html
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from projects.engine.errors import UserError
from projects.engine.files import write_text
from projects.evaluation.gallery import distinct_palette, file_stem
from projects.evaluation.plots import plot_confusion, plot_curves, plot_reliability, png_bytes
from projects.evaluation.result import Evaluation
from projects.evaluation.tables import percent
from projects.evaluation.workdir import Run, read_run

SPLITS = {'test': 'Test', 'val': 'Validation'}
TILES = (
    ('mIoU', 'mean IoU', 'over the classes that occur in truth or prediction'),
    ('mIoU_foreground', 'foreground IoU', 'mean IoU without {background}'),
    ('mF1', 'mean F1', 'harmonic mean of precision and recall'),
    ('OA', 'overall accuracy', 'share of pixels that are right'),
    ('mAcc', 'mean accuracy', 'mean recall of the true classes'),
    ('ECE', 'calibration error', 'distance of confidence from accuracy; lower is better'),
)

Section = tuple[str, str, str]  # anchor, heading, HTML


def write_report(
    work_dir: str | Path,
    out_html: str | Path,
    *,
    gallery: str | Path | None = None,
    manifest: str | Path | None = None,
    figures: Sequence[tuple[str, str | Path]] = (),
    title: str | None = None,
    gallery_limit: int = 12,
) -> None:
    """Write the report of one work directory.

    Args:
        work_dir: folder of a run; its scalars, logs and ``evaluation/`` are read.
        out_html: the page to write.
        gallery: folder of prediction PNGs (``tools/test.py --show-dir``); the worst and the best samples are shown
            where the test's per-sample scores name them.
        manifest: ``manifest.json`` of the prepared data set, for the data statistics.
        figures: further pictures as (title, PNG, JPEG or TIFF file).
        title: heading of the page; default the config's name.
        gallery_limit: at most so many pictures of the gallery.

    Raises:
        UserError: the work directory holds no run, or a named file or folder is missing or unreadable.
    """
    run = read_run(work_dir)
    # What the caller named comes first: a wrong path should not cost the drawing of the rest.
    data = _data_section(Path(manifest)) if manifest is not None else []
    predictions = _gallery_section(run, Path(gallery), gallery_limit) if gallery is not None else []
    extra = [(f'figure-{number}', heading, _picture(embed_picture(path), heading))
             for number, (heading, path) in enumerate(figures)]
    sections: list[Section] = [
        *_score_sections(run), *_curve_section(run), *predictions, *_sample_section(run), *extra, *data,
        *_fact_section(run)]
    write_text(out_html, _page(title or run.name, _lead(run), sections))


def embed_picture(path: str | Path, longest: int = 2200) -> str:
    """Return a picture file as a data URI: PNG as it is when small, else reduced and as JPEG."""
    path = Path(path)
    try:
        with Image.open(path) as picture:
            picture.load()
            if path.suffix.lower() == '.png' and path.stat().st_size < 300_000 and max(picture.size) <= longest:
                return _data_uri(path.read_bytes(), 'png')
            picture.thumbnail((longest, longest))
            buffer = io.BytesIO()
            if picture.mode in ('RGBA', 'LA', 'P'):
                picture = picture.convert('RGBA')
                white = Image.new('RGBA', picture.size, 'white')
                picture = Image.alpha_composite(white, picture)
            picture.convert('RGB').save(buffer, 'JPEG', quality=86, subsampling=0, optimize=True)
    except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: what Pillow raises on a broken PNG
        raise UserError(f'{path}: not readable as a picture ({error})') from error
    return _data_uri(buffer.getvalue(), 'jpeg')


# ------------------------------------------------------------------------------------------------------ sections


def _score_sections(run: Run) -> list[Section]:
    sections: list[Section] = []
    shown = list(run.evaluations)
    if 'test' in shown and 'val' in shown:  # the validation beside a test is a footnote
        shown.remove('val')
    for name in shown:
        evaluation, facts = run.evaluations[name]
        before = f'{SPLITS.get(name, name)}: ' if len(shown) > 1 else ''
        anchor = file_stem(name)
        body = _tiles(evaluation) + _basis(evaluation, facts)
        if name == 'test' and 'val' in run.evaluations:
            body += _beside(*run.evaluations['val'])
        sections.append((f'scores-{anchor}', f'{SPLITS.get(name, name)} scores', body))
        sections.append((f'classes-{anchor}', f'{before}Classes', _class_table(evaluation)))
        matrix = _data_uri(png_bytes(plot_confusion(
            evaluation.confusion, evaluation.classes, title='', missed=evaluation.missed)), 'png')
        sections.append((
            f'confusion-{anchor}', f'{before}Confusion',
            '<div class="beside">'
            + _picture(matrix, 'confusion matrix', width=130 + (105 if len(evaluation.classes) < 9 else 85)
                       * len(evaluation.classes))
            + f'<div><p>Each row is a true class, each column what the network made of it.</p>'
              f'{_largest_confusions(evaluation)}</div></div>',
        ))
        if evaluation.calibration is not None and evaluation.calibration.count.sum():
            diagram = _data_uri(png_bytes(plot_reliability(evaluation.calibration, title='')), 'png')
            sections.append((
                f'confidence-{anchor}', f'{before}Confidence',
                '<div class="beside">' + _picture(diagram, 'reliability diagram', width=540)
                + '<div><p>Can the network be believed when it is sure? A calibrated one is right in 80 % of the '
                  'pixels where it is 80 % sure: its bars end on the dashed line.</p><p>Bars that end below the line '
                  'mean that it is too sure of itself.</p></div></div>',
            ))
    return sections


def _largest_confusions(evaluation: Evaluation, number: int = 5) -> str:
    """List the pairs of classes that cost most pixels."""
    confusion, truth = evaluation.confusion, evaluation.scores.truth_pixels
    pairs = sorted(
        ((int(confusion[t, p]), t, p) for t in range(len(confusion)) for p in range(len(confusion))
         if t != p and confusion[t, p]), reverse=True)[:number]
    if not pairs:
        return ''
    items = ''.join(
        f'<li><b>{_text(evaluation.classes[t])}</b> taken for <b>{_text(evaluation.classes[p])}</b><br>'
        f'<span class="none">{count:,} px, {percent(count / int(truth[t]))} of its truth</span></li>'
        for count, t, p in pairs)
    return f'<p>The costliest confusions:</p><ol>{items}</ol>'


def _tiles(evaluation: Evaluation) -> str:
    summary = evaluation.summary()
    background = evaluation.classes[evaluation.background] if evaluation.background is not None else None
    tiles = []
    for key, label, hint in TILES:
        if key not in summary or (key == 'mIoU_foreground' and background is None):
            continue
        hint = hint.format(background=background)
        main = ' class="tile main"' if key == 'mIoU' else ' class="tile"'
        tiles.append(f'<div{main}><span class="label">{_text(label)}</span>'
                     f'<span class="value">{percent(summary[key])}</span>'
                     f'<span class="hint">{_text(hint)}</span></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _basis(evaluation: Evaluation, facts: Mapping[str, Any]) -> str:
    parts = [f'{len(evaluation.samples):,} images', f'{evaluation.pixels:,} labelled pixels']
    if evaluation.missed is not None:
        parts.append(f'{int(evaluation.missed.sum()):,} of them without a prediction, counted as wrong')
    if facts.get('checkpoint'):
        parts.append(f'checkpoint {facts["checkpoint"]}')
    if facts.get('step'):
        parts.append(str(facts['step']).replace('_', ' '))
    return f'<p class="note">{_text(" · ".join(parts))}</p>'


def _beside(evaluation: Evaluation, facts: Mapping[str, Any]) -> str:
    cells = ' · '.join(f'{name} {percent(value)}' for name, value in evaluation.summary().items())
    step = f' ({str(facts["step"]).replace("_", " ")})' if facts.get('step') else ''
    return f'<p class="note">{_text(f"Latest validation{step}: {cells}")}</p>'


def _class_table(evaluation: Evaluation) -> str:
    palette = evaluation.palette or distinct_palette(len(evaluation.classes))
    total = max(evaluation.pixels, 1)
    rows = []
    for i, row in enumerate(evaluation.scores.per_class()):
        swatch = f'<span class="swatch" style="background:rgb{tuple(palette[i])}"></span>'
        rows.append(
            f'<tr><th scope="row">{swatch}{_text(row["class"])}</th>'
            f'<td class="bar">{_bar(row["IoU"])}</td>'
            + ''.join(f'<td>{percent(row[key])}</td>' for key in ('F1', 'precision', 'recall'))
            + f'<td>{percent(row["truth_pixels"] / total)}</td></tr>'
        )
    head = '<tr><th scope="col">class</th><th scope="col" class="bar">IoU</th>' + ''.join(
        f'<th scope="col">{name}</th>' for name in ('F1', 'precision', 'recall', 'share of truth')) + '</tr>'
    missing = [row['class'] for row in evaluation.scores.per_class() if math.isnan(row['IoU'])]
    note = f'<p class="note">{_text(", ".join(missing))}: in neither truth nor prediction, left out of the means.</p>'
    return (f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
            + (note if missing else ''))


def _curve_section(run: Run) -> list[Section]:
    if not run.curves:
        return []
    picture = _data_uri(png_bytes(plot_curves(run.curves, title='')), 'png')
    note = 'Pale lines are single readings, strong ones their running mean.'
    if run.curves.starts:
        note += ' Dotted lines mark where the run was resumed.'
    return [('curves', 'Training', _picture(picture, 'training curves', note))]


def _gallery_section(run: Run, folder: Path, limit: int) -> list[Section]:
    if not folder.is_dir():
        raise UserError(f'{folder}: no such gallery folder')
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in ('.png', '.jpg', '.jpeg')}
    if not files:
        raise UserError(f'{folder}: no PNG or JPEG pictures for the gallery')
    scored = {file_stem(str(row['sample_id'])): row['mIoU'] for row in _samples(run)}
    scored = {stem: value for stem, value in scored.items() if stem in files and not math.isnan(value)}
    chosen = _choose(scored, list(files), limit)
    items = []
    for stem, kind in chosen:
        about = [kind] if kind else []
        if stem in scored:
            about.append(f'mIoU {percent(scored[stem])}')
        caption = f'{stem} ({", ".join(about)})' if about else stem
        items.append(_picture(embed_picture(files[stem], 1600), f'prediction for {stem}', caption))
    note = f'<p class="note">{len(chosen)} of {len(files)} pictures.</p>' if len(files) > len(chosen) else ''
    return [('gallery', 'Predictions', f'<div class="gallery">{"".join(items)}</div>{note}')]


def _choose(scored: Mapping[str, float], stems: list[str], limit: int) -> list[tuple[str, str]]:
    """Pick the best and the worst thirds and what lies between, or evenly where nothing is scored."""
    if len(scored) < 3:
        step = max(len(stems) / max(limit, 1), 1)
        return [(stems[int(i * step)], '') for i in range(min(limit, len(stems)))]
    order = sorted(scored, key=lambda stem: (-scored[stem], stem))
    number = min(limit, len(order))
    if number == len(order):
        return [(stem, 'best' if i == 0 else 'worst' if i == number - 1 else '') for i, stem in enumerate(order)]
    spots = sorted({round(i * (len(order) - 1) / max(number - 1, 1)) for i in range(number)})
    return [(order[i], 'best' if i == 0 else 'worst' if i == len(order) - 1 else '') for i in spots]


def _sample_section(run: Run) -> list[Section]:
    rows = [row for row in _samples(run) if not math.isnan(row['mIoU'])]
    if len(rows) < 4:
        return []
    number = min(5, len(rows) // 2)

    def table(title: str, some: Iterable[Mapping[str, Any]]) -> str:
        body = ''.join(f'<tr><th scope="row">{_text(str(row["sample_id"]))}</th><td class="bar">{_bar(row["mIoU"])}'
                       f'</td><td>{percent(row["OA"])}</td></tr>' for row in some)
        return (f'<div class="scroll"><table><thead><tr><th scope="col">{title}</th><th scope="col" class="bar">mIoU'
                f'</th><th scope="col">accuracy</th></tr></thead><tbody>{body}</tbody></table></div>')

    body = f'<div class="pair">{table("worst images", rows[:number])}{table("best images", rows[::-1][:number])}</div>'
    return [('samples', 'Worst and best images', body)]


def _samples(run: Run) -> list[dict[str, Any]]:
    for name in ('test', *run.evaluations):
        if name in run.evaluations and run.evaluations[name][0].samples:
            return run.evaluations[name][0].samples
    return []


def _data_section(path: Path) -> list[Section]:
    try:
        manifest = json.loads(path.read_text(encoding='utf-8'))
        items, taxonomy = manifest['items'], manifest['taxonomy']
        classes = list(taxonomy['classes'])
        splits: dict[str, list[dict]] = {}
        for item in items:
            splits.setdefault(str(item['split']), []).append(item)
        pixels = {split: [sum(int(item['pixels'][i]) for item in some) for i in range(len(classes))]
                  for split, some in splits.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f'{path}: not a manifest of a prepared data set ({type(error).__name__}: {error})') from error
    palette = taxonomy.get('palette') or distinct_palette(len(classes))
    order = {'train': 0, 'val': 1, 'test': 2}
    rows = []
    for split in sorted(splits, key=lambda name: (order.get(name, 3), name)):
        total = sum(pixels[split])
        parts = ''.join(
            f'<span style="width:{100 * count / total:.3f}%;background:rgb{tuple(palette[i])}" '
            f'title="{_text(classes[i])}: {percent(count / total)}"></span>'
            for i, count in enumerate(pixels[split]) if count) if total else ''
        groups = len({str(item.get('group')) for item in splits[split]})
        rows.append(f'<tr><th scope="row">{_text(split)}</th><td>{len(splits[split]):,}</td><td>{groups:,}</td>'
                    f'<td>{total / 1e6:,.1f} M</td><td class="wide"><div class="stack">{parts}</div></td></tr>')
    legend = ''.join(f'<span class="key"><span class="swatch" style="background:rgb{tuple(palette[i])}"></span>'
                     f'{_text(name)}</span>' for i, name in enumerate(classes))
    facts = [('Taxonomy', taxonomy.get('taxonomy'))]
    rule, source = manifest.get('split'), manifest.get('source')
    if isinstance(source, Mapping):
        root = source.get('root')  # a path of the machine that prepared it: the folder's name is enough
        facts += [('Source', Path(str(root)).name if root else None), ('Layout', source.get('layout')),
                  ('Labels of the source', source.get('taxonomy')), ('Licence', source.get('licence'))]
    if isinstance(rule, Mapping):
        facts += [('Split by', rule.get('rule')), ('Split seed', rule.get('seed')),
                  ('Pairs of splits that share ground', rule.get('leaks'))]
    for key, label in (('left_out', 'Images left out'), ('skipped', 'Bad files skipped')):
        if manifest.get(key):
            facts.append((label, len(manifest[key])))
    body = ('<div class="scroll"><table><thead><tr><th scope="col">split</th><th scope="col">images</th>'
            '<th scope="col">groups</th><th scope="col">pixels</th><th scope="col" class="wide">classes</th></tr>'
            f'</thead><tbody>{"".join(rows)}</tbody></table></div><p class="keys">{legend}</p>'
            + _fact_list([(label, str(value)) for label, value in facts if value is not None]))
    return [('data', 'Data', body)]


def _fact_section(run: Run) -> list[Section]:
    return [('run', 'The run', _fact_list(run.facts))] if run.facts else []


# ------------------------------------------------------------------------------------------------------ pieces


def _lead(run: Run) -> str:
    facts = dict(run.facts)
    parts = [facts[key] for key in ('Started', 'Duration', 'Hardware') if key in facts]
    return ' · '.join(parts)


def _fact_list(facts: Sequence[tuple[str, str]]) -> str:
    return '<dl>' + ''.join(f'<div><dt>{_text(label)}</dt><dd>{_text(value)}</dd></div>' for label, value in facts) \
        + '</dl>'


def _bar(value: float) -> str:
    if math.isnan(value):
        return '<span class="none">–</span>'
    width = 100 * min(max(value, 0), 1)
    return (f'<span class="track"><span style="width:{width:.1f}%"></span></span>'
            f'<span class="number">{percent(value)}</span>')


def _picture(uri: str, alt: str, caption: str = '', width: int | None = None) -> str:
    style = f' style="max-width:{width}px"' if width else ''
    note = f'<figcaption>{_text(caption)}</figcaption>' if caption else ''
    return f'<figure{style}><img src="{uri}" alt="{_text(alt)}">{note}</figure>'


def _data_uri(data: bytes, kind: str) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(data).decode("ascii")}'


def _text(value: str) -> str:
    return html.escape(str(value), quote=True)


def _page(title: str, lead: str, sections: Sequence[Section]) -> str:
    links = ''.join(f'<a href="#{_text(anchor)}">{_text(heading)}</a>' for anchor, heading, _ in sections)
    body = ''.join(f'<section id="{_text(anchor)}"><h2>{_text(heading)}</h2>{content}</section>\n'
                   for anchor, heading, content in sections)
    made = datetime.now().strftime('%Y-%m-%d %H:%M')
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header><p class="kind">Run report</p><h1>{_text(title)}</h1><p class="lead">{_text(lead)}</p></header>
<nav>{links}</nav>
<main>
{body}</main>
<footer>Made by Terrace on {made}.</footer>
</body>
</html>
"""


STYLE = """
:root { --ink: #1f2933; --muted: #5b6773; --line: #dfe5ec; --page: #f5f7fa; --card: #ffffff; --accent: #2d6cc0;
  --track: #e4eaf1; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --muted: #9ba8b5; --line: #2e3945; --page: #12171d; --card: #1b222a; --accent: #6aa5ec;
    --track: #2c3743; }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0 auto; padding: 0 1.25rem 3rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header { padding: 2.75rem 0 1rem; }
.kind { margin: 0; color: var(--accent); font-weight: 600; font-size: .85rem; letter-spacing: .06em;
  text-transform: uppercase; }
h1 { margin: .2rem 0 .3rem; font-size: clamp(1.5rem, 4vw, 2.3rem); line-height: 1.2; overflow-wrap: anywhere; }
.lead { margin: 0; color: var(--muted); }
nav { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; padding: .7rem 0;
  background: var(--page); border-bottom: 1px solid var(--line); font-size: .9rem; }
nav a { color: var(--muted); text-decoration: none; }
nav a:hover, nav a:focus { color: var(--accent); }
section { margin: 1.5rem 0; padding: 1.4rem 1.5rem 1.5rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; scroll-margin-top: 3.5rem; }
h2 { margin: 0 0 1rem; font-size: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; }
.tile { display: flex; flex-direction: column; padding: .9rem 1rem; border: 1px solid var(--line);
  border-radius: 10px; }
.tile.main { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
.tile .label { color: var(--muted); font-size: .87rem; }
.tile .value { font-size: 1.9rem; font-weight: 650; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile .hint { color: var(--muted); font-size: .78rem; line-height: 1.35; }
.note, figcaption { color: var(--muted); font-size: .88rem; }
.note { margin: .8rem 0 0; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .94rem; }
th, td { padding: .48rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--muted); font-weight: 500; font-size: .84rem; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; padding-left: 0; font-weight: 550; }
thead th:first-child { font-weight: 500; }
td:last-child, th:last-child { padding-right: 0; }
.bar { width: 42%; min-width: 11rem; text-align: left; }
.track { display: inline-block; width: calc(100% - 4.6rem); height: .7rem; margin-right: .6rem; overflow: hidden;
  background: var(--track); border-radius: 4px; vertical-align: middle; }
.track span { display: block; height: 100%; background: var(--accent); border-radius: 4px; }
.number { display: inline-block; width: 3.9rem; text-align: right; }
.swatch { display: inline-block; width: .85rem; height: .85rem; margin-right: .55rem; vertical-align: -.08rem;
  border-radius: 3px; box-shadow: inset 0 0 0 1px rgba(0, 0, 0, .25); }
.none { color: var(--muted); }
.wide { width: 50%; min-width: 12rem; text-align: left; }
.stack { display: flex; height: 1rem; overflow: hidden; border-radius: 4px; background: var(--track); }
.keys { margin: .9rem 0 0; font-size: .88rem; }
.key { display: inline-block; margin-right: 1.1rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem 2.5rem; }
.pair .bar { min-width: 8rem; }
.pair tbody th { max-width: 16rem; overflow: hidden; text-overflow: ellipsis; font-weight: 450; }
figure { margin: 0; }
.beside { display: flex; flex-wrap: wrap; align-items: center; gap: 1.2rem 2rem; }
.beside > figure { flex: 100 1 26rem; }
.beside > div { flex: 1 1 13rem; font-size: .94rem; }
.beside p { margin: 0 0 .6rem; color: var(--muted); }
.beside ol { margin: 0; padding-left: 1.2rem; }
.beside li { margin-bottom: .45rem; line-height: 1.35; }
.beside b { font-weight: 600; }
figure img { display: block; width: 100%; height: auto; padding: .5rem; background: #fff; border-radius: 8px; }
figcaption { margin-top: .5rem; }
.gallery { display: grid; gap: 1.6rem; }
.gallery figcaption { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: .9rem 1.5rem;
  margin: 0; }
.keys + dl { margin-top: 1.2rem; }
dt { color: var(--muted); font-size: .82rem; }
dd { margin: 0; overflow-wrap: anywhere; }
footer { color: var(--muted); font-size: .85rem; text-align: center; }
@media (max-width: 40rem) { nav { position: static; } section { padding: 1.1rem 1rem; } }
@media print { nav { display: none; } section { break-inside: avoid; } }
"""
