"""The model card: what a published model is, from the records of its training alone."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from projects.evaluation.tables import markdown_table, percent

HEADLINES = ('mIoU', 'mIoU_foreground', 'mF1', 'OA', 'mAcc', 'ECE')
SPLITS = {'test': 'test split', 'val': 'validation split'}


def model_card(lineage: Mapping[str, Any], config: Mapping[str, Any], dataset_meta: Mapping[str, Any],
               published: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]], numbers: int) -> str:
    """Return the card as Markdown. What the records do not tell is said to be unknown, or left out.

    Args:
        lineage: The record of ``lineage.json``.
        config: The published config.
        dataset_meta: Classes, palette, taxonomy.
        published: The weights' entry of the published lineage: hash, step, metrics, source.
        scores: ``scores.json`` by split, of this very checkpoint.
        numbers: Elements of all tensors.
    """
    sections = [
        (f'{lineage.get("name")}', _summary(lineage, config, published, numbers)),
        ('Classes', _classes(dataset_meta)),
        ('Data', _data(lineage)),
        ('Training', _training(lineage, published)),
        ('Scores', _scores(published, scores)),
        ('Intended use and limits', _limits(lineage, config, dataset_meta, scores)),
        ('How to load it', _loading(config, scores)),
    ]
    return '\n\n'.join(f'{"##" if index else "#"} {title}\n\n' + '\n\n'.join(paragraphs)
                       for index, (title, paragraphs) in enumerate(sections)) + '\n'


def _summary(lineage: Mapping, config: Mapping, published: Mapping, numbers: int) -> list[str]:
    model = config.get('model') or {}
    parts = [f'`{part["type"]}`' for part in (model, model.get('backbone'), model.get('decode_head'))
             if isinstance(part, Mapping) and part.get('type')]
    network = f'{parts[0]} of {" and ".join(parts[1:])}' if len(parts) > 1 else ''.join(parts) or 'A network'
    return [f'{network}; {numbers:,} values in its tensors.', _facts([
        ('Task', lineage.get('task')), ('Chain', lineage.get('chain')), ('Stage', lineage.get('stage')),
        ('Run', lineage.get('run_id')), ('Iteration', published.get('step')),
        ('Weights', f'sha256 `{published.get("sha256")}`'),
        ('Taken from', f'{published["source"]["file"]}, sha256 `{published["source"]["sha256"]}`')])]


def _classes(meta: Mapping) -> list[str]:
    palette = meta.get('palette') or [None] * len(meta['classes'])
    rows = [(index, name, '#' + ''.join(f'{int(value):02x}' for value in colour) if colour else None)
            for index, (name, colour) in enumerate(zip(meta['classes'], palette))]
    text = [_table(('Index', 'Class', 'Colour'), rows)]
    if meta.get('taxonomy'):
        text.insert(0, f'Taxonomy {meta["taxonomy"]}, hash `{meta.get("taxonomy_hash")}`. Label '
                       f'{meta.get("ignore_index", 255)} is ignored.')
    return text


def _data(lineage: Mapping) -> list[str]:
    if not lineage.get('data'):
        return ['Not recorded.']
    rows = [(_name(data), *((data.get('splits') or {}).get(split) for split in ('train', 'val', 'test')),
             f'`{data["sha256"]}`' if data.get('sha256') else 'no manifest: its files are not known')
            for data in lineage['data']]
    return [_table(('Data set', 'Train', 'Val', 'Test', 'SHA-256 of its manifest'), rows)]


def _training(lineage: Mapping, published: Mapping) -> list[str]:
    config, code, hardware = (lineage.get(key) or {} for key in ('config', 'code', 'hardware'))
    rows = [('Config', f'{config.get("file") or lineage.get("name")}, sha256 `{config.get("sha256")}`')]
    if code.get('commit'):
        rows.append(('Code', f'commit `{code["commit"]}`' + (' with local changes' if code.get('dirty') else '')))
    starts = lineage.get('starts') or []
    if starts:
        seconds = sum(start.get('seconds') or 0 for start in starts)
        rows.append(('Starts', '; '.join(
            f'{str(start.get("started"))[:10]}, iterations {start.get("from_iteration")} to '
            f'{start.get("to_iteration")}, {start.get("status")}' for start in starts)))
        rows.append(('Duration', str(timedelta(seconds=round(seconds)))))
        for key, label in (('peak_memory_mib', 'Peak memory'), ('gpu_memory_mib', 'Peak GPU memory')):
            if known := [start[key] for start in starts if start.get(key) is not None]:
                rows.append((label, f'{max(known):,.0f} MiB'))
        known = [start['energy_wh'] for start in starts if start.get('energy_wh') is not None]
        if known and len(known) == len(starts):
            rows.append(('Energy', f'{sum(known):,.1f} Wh'))
    if hardware:
        rows.append(('Hardware', f'{", ".join(hardware.get("gpus") or ()) or hardware.get("cpu")}, '
                                 f'{hardware.get("processes")} process'
                                 + ('' if hardware.get('processes') == 1 else 'es')))
    rows.append(('Seed', lineage.get('seed')))
    if lineage.get('versions'):
        rows.append(('Versions', ', '.join(f'{name} {version}' for name, version in lineage['versions'].items())))
    text = [_facts(rows)]
    if ancestors := list(_ancestors(lineage)):
        text.append('It began with the weights of:')
        text.append(_table(('Stage', 'Role', 'File', 'SHA-256'), ancestors))
    elif not lineage.get('minimal'):
        text.append('It began with no other weights.')
    return text


def _ancestors(lineage: Mapping, depth: int = 0) -> Iterator[tuple]:
    for parent in lineage.get('parents') or ():
        below = parent.get('lineage') or {}
        yield below.get('stage') or 'unknown', parent.get('role'), parent.get('file'), f'`{parent.get("sha256")}`'
        if depth < 50:
            yield from _ancestors(below, depth + 1)


def _scores(published: Mapping, scores: Mapping[str, Mapping]) -> list[str]:
    text = []
    for split, found in scores.items():
        headline = ', '.join(f'{name} {percent(value)}' for name in HEADLINES
                             if (value := (found.get('scores') or {}).get(name)) is not None)
        text.append(f'**{SPLITS[split].capitalize()}**, {found.get("samples")} '
                    f'{_nouns(scores)[0]}: {headline}.')
        rows = found.get('per_class') or []
        if rows:
            text.append(_table(list(rows[0]), [
                [percent(value) if isinstance(value, float) else value for value in row.values()] for row in rows]))
    if 'val' not in scores and (numbers := published.get('metrics')):
        shown = ', '.join(f'{name} {percent(numbers[name])}' for name in HEADLINES if numbers.get(name) is not None)
        text.append(f'**Validation split**, when the weights were saved: {shown}.')
    return text or ['None recorded for these weights.']


def _limits(lineage: Mapping, config: Mapping, meta: Mapping, scores: Mapping[str, Mapping]) -> list[str]:
    names = ', '.join(_name(data) for data in lineage.get('data') or ()) or 'data that were not recorded'
    counted = _nouns(scores)[1]
    facts = [f'It labels every {counted[:-1]} with one of the {len(meta["classes"])} classes above, and knows no '
             'others.',
             f'It was trained on {names}; these records hold no score on other data.']
    reader = next(iter(config.get('test_pipeline') or ()), {})
    if reader.get('bands'):
        value_range = reader.get('value_range')
        facts.append(f'It reads bands {", ".join(map(str, reader["bands"]))} of an image, '
                     + (f'values {value_range[0]} to {value_range[1]}.' if value_range else '8 bits each.'))
    if 'test' not in scores:
        facts.append('It has no recorded score on a test split.')
    for split, found in scores.items():
        rows = found.get('per_class') or []
        if absent := [row['class'] for row in rows if row.get('truth_pixels') == 0]:
            facts.append(f'The {SPLITS[split]} holds no {counted[:-1]} of: {", ".join(absent)}.')
        seen = [row for row in rows if row.get('truth_pixels') and row.get('IoU') is not None]
        if seen:
            worst = min(seen, key=lambda row: row['IoU'])
            facts.append(f'Its weakest class on the {SPLITS[split]} is {worst["class"]} '
                         f'(IoU {percent(worst["IoU"])}).')
    if (lineage.get('code') or {}).get('dirty'):
        facts.append('Its code differed from the commit; these files do not hold the changes.')
    if lineage.get('minimal'):
        facts.append('Only what its checkpoint told is known of its origin.')
    return ['\n'.join(f'- {fact}' for fact in facts)]


def _nouns(scores: Mapping[str, Mapping]) -> tuple[str, str]:
    """Return what samples are and what is labelled in them, as the scores say."""
    said = next((found['nouns'] for found in scores.values() if found.get('nouns')), ('images', 'pixels'))
    return said[0], said[1]


def _loading(config: Mapping, scores: Mapping[str, Mapping]) -> list[str]:
    predicting = ('' if _nouns(scores)[0] != 'images' else
                  'python TERRACE/tools/predict.py config.py model.safetensors IMAGE --out OUT/predictions\n')
    data = ' --cfg-options data_root=DATA' if 'data_root' in config else ''
    return ['In this folder, with `TERRACE` the checkout, `DATA` a prepared data set and `OUT` a folder of yours:',
            '```bash\n'
            'sha256sum -c SHA256SUMS\n'
            f'python TERRACE/tools/test.py config.py model.safetensors --work-dir OUT/scores{data}\n'
            f'{predicting}'
            'python TERRACE/tools/lineage.py .\n```',
            '```python\n'
            'from projects.engine.inference import load_model\n\n'
            "model, config = load_model('config.py', 'model.safetensors')\n```"]


def _name(data: Mapping) -> str:
    return str(data.get('source') or data.get('name'))


def _facts(rows: Sequence[tuple[str, Any]]) -> str:
    return '\n'.join(f'- **{label}**: {"not recorded" if value is None else value}' for label, value in rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return markdown_table(header, rows).rstrip('\n')
