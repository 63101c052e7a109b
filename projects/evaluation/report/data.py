"""The data section: images and classes of each split, from the manifest."""

import json
from collections.abc import Mapping
from pathlib import Path

from projects.engine.errors import UserError
from projects.evaluation.gallery import distinct_palette
from projects.evaluation.report.page import Section, fact_list, text
from projects.evaluation.tables import percent


def _amount(pixels: int) -> str:
    return f'{pixels / 1e6:,.1f} M' if pixels >= 1e6 else f'{pixels:,}'


def data_section(path: Path) -> list[Section]:
    """Return the section on the data set of a manifest.

    Raises:
        UserError: the file is not a manifest.
    """
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
            f'title="{text(classes[i])}: {percent(count / total)}"></span>'
            for i, count in enumerate(pixels[split]) if count) if total else ''
        groups = len({str(item.get('group')) for item in splits[split]})
        rows.append(f'<tr><th scope="row">{text(split)}</th><td>{len(splits[split]):,}</td><td>{groups:,}</td>'
                    f'<td>{_amount(total)}</td><td class="wide"><div class="stack">{parts}</div></td></tr>')
    legend = ''.join(f'<span class="key"><span class="swatch" style="background:rgb{tuple(palette[i])}"></span>'
                     f'{text(name)}</span>' for i, name in enumerate(classes))
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
            + fact_list([(label, str(value)) for label, value in facts if value is not None]))
    return [('data', 'Data', body)]
