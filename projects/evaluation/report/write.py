"""Reading the work directories and putting the page together."""

from collections.abc import Sequence
from pathlib import Path

from projects.engine.errors import UserError
from projects.engine.files import write_text
from projects.evaluation.comparison import compare
from projects.evaluation.report import samples, score_tables, scores, stages
from projects.evaluation.report.cost import cost_section
from projects.evaluation.report.data import data_section
from projects.evaluation.report.lineage import lineage_section
from projects.evaluation.report.page import Section, embed_picture, fact_list, page, picture, text
from projects.evaluation.report.training import curve_section
from projects.evaluation.workdir import Run, read_run

PathLike = str | Path


def write_report(
    work_dirs: PathLike | Sequence[PathLike],
    out_html: PathLike,
    *,
    gallery: PathLike | Sequence[PathLike] | None = None,
    manifest: PathLike | None = None,
    figures: Sequence[tuple[str, PathLike]] = (),
    title: str | None = None,
    gallery_limit: int = 12,
) -> None:
    """Write the report of one work directory, or of several beside each other.

    Several are stages of a chain, variants or repetitions with other seeds. They stand in the order of their lineage
    where it tells, else in the order given; runs whose configs differ in the seed alone are one stage.

    Args:
        work_dirs: folders of runs; scalars, logs, ``evaluation/`` and ``lineage.json`` are read.
        out_html: the page to write.
        gallery: folder of prediction PNGs (``tools/test.py --show-dir``) of the one run, or of the last of several;
            a list holds one folder for each work directory.
        manifest: ``manifest.json`` of the prepared data set, for the data statistics.
        figures: further pictures as (title, PNG, JPEG or TIFF file).
        title: heading of the page; default the config's name, or the names of the stages.
        gallery_limit: at most so many pictures of the gallery.

    Raises:
        UserError: a work directory holds no run, or a named file or folder is missing or unreadable.
    """
    if Path(out_html).is_dir():
        raise UserError(f'{out_html}: is a folder; expected the file to write, like {Path(out_html) / "report.html"}')
    for above in Path(out_html).parents:
        if above.exists() and not above.is_dir():
            raise UserError(f'{out_html}: cannot be written, {above} is a file')
    folders = [Path(one) for one in ([work_dirs] if isinstance(work_dirs, str | Path) else work_dirs)]
    galleries = [Path(one) for one in ([gallery] if isinstance(gallery, str | Path) else gallery or [])]
    if len({folder.resolve() for folder in folders}) != len(folders):
        raise UserError('work directories: one of them was given twice')
    if len(galleries) > 1 and len(galleries) != len(folders):
        raise UserError(f'gallery: expected one folder, or one for each of the {len(folders)} work directories, '
                        f'found {len(galleries)}')
    runs = [read_run(folder) for folder in folders]
    # What the caller named comes first: a wrong path should not cost the drawing of the rest.
    data = data_section(Path(manifest)) if manifest is not None else []
    files = [samples.gallery_files(folder) for folder in galleries]
    extra = [(f'figure-{number}', heading, picture(embed_picture(path), heading))
             for number, (heading, path) in enumerate(figures)]
    if len(runs) == 1:
        html = _page_of_one(runs[0], title, samples.gallery_section(runs[0], files[0], gallery_limit) if files else [],
                            [*extra, *data])
    else:
        html = _page_of_several(runs, title, files, gallery_limit, [*extra, *data])
    write_text(out_html, html)


def _page_of_one(run: Run, title: str | None, predictions: list[Section], extra: list[Section]) -> str:
    facts = dict(run.facts)
    lead = ' · '.join(facts[key] for key in ('Started', 'Duration', 'Hardware') if key in facts)
    of_task = score_tables.table_sections(run)
    if score_sections := scores.score_sections(run):
        (anchor, heading, body), *others = score_sections
        sections = [(anchor, heading, scores.answer(run) + body), *of_task, *others]
    else:
        sections = [('answer', 'In short', scores.answer(run)), *of_task]
    return page('Run report', title or run.name, lead, [
        *sections, *curve_section(run), *predictions, *samples.sample_section(run), *extra,
        *lineage_section([run]), *cost_section([(run.stage, run)]), *_fact_section([run])])


def _page_of_several(runs: list[Run], title: str | None, files: list[dict[str, Path]], limit: int,
                     extra: list[Section]) -> str:
    comparison = compare(runs)
    labels = {run.work_dir: stage.label if len(stage.runs) == 1 else f'{stage.label} ({_repetition(run)})'
              for stage in comparison.stages for run in stage.runs}
    ordered = [run for stage in comparison.stages for run in stage.runs]
    # One folder belongs to the last run given; of repetitions only the first one's pictures are shown.
    pairs = list(zip(runs if len(files) == len(runs) else runs[-1:], files))
    first = {label: next((found for run in stage.runs for owner, found in pairs if owner is run), None)
             for label, stage in ((stage.label, stage) for stage in comparison.stages)}
    shown = [(label, found) for label, found in first.items() if found]
    names = [stage.label for stage in comparison.stages]
    arrow = ' → ' if comparison.chain else ', '
    heading = title or (arrow.join(names) if len(names) < 6 else f'{names[0]}{arrow}…{arrow}{names[-1]}')
    counts = f'{len(names)} {comparison.noun}{"s" * (len(names) > 1)}'
    counts += f' in {len(runs)} runs' if len(runs) > len(names) else ''
    order = 'ordered by lineage' if comparison.by_lineage else ''
    chain = next((run.lineage.get('chain') for run in runs if run.lineage and run.lineage.get('chain')), '')
    predictions = samples.compared_gallery_section(comparison, shown, limit) if shown else []
    return page('Comparison of runs', heading, ' · '.join(filter(None, (chain, counts, order))), [
        ('answer', 'In short', stages.answer(comparison)),
        *stages.stage_section(comparison), *score_tables.compared_sections(comparison),
        *stages.class_section(comparison), *stages.config_section(comparison),
        *stages.curve_section(comparison), *stages.confusion_section(comparison),
        *samples.changed_section(comparison), *predictions, *extra,
        *lineage_section(ordered), *cost_section([(labels[run.work_dir], run) for run in ordered]),
        *_fact_section(ordered, labels)])


def _repetition(run: Run) -> str:
    return f'seed {run.seed}' if run.seed is not None else run.work_dir.resolve().name


def _fact_section(runs: Sequence[Run], labels: dict[Path, str] | None = None) -> list[Section]:
    if len(runs) == 1:
        return [('run', 'The run', fact_list(runs[0].facts))] if runs[0].facts else []
    return [('run', 'The runs', ''.join(
        f'<h3>{text(labels[run.work_dir])}</h3>{fact_list([("Folder", run.work_dir.resolve().name), *run.facts])}'
        for run in runs))]
