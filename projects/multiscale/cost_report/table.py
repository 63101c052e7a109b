"""A measured cost as plain text."""

from collections.abc import Mapping
from typing import Any

from projects.evaluation.tables import percent, text_table

HEADER = ('', 'parameters', 'live', 'dead', 'frozen', 'GMAC', 'forward ms', 'backward ms', 'kept MB')


def cost_table(cost: Mapping[str, Any]) -> str:
    """Return what :func:`~projects.multiscale.cost_report.measure.measure_cost` measured, as lines of text."""
    setting, total = cost['setting'], cost['total']
    precision = 'bfloat16 autocast' if setting['amp'] else 'float32'
    memory = 'channels-last' if setting['channels_last'] else 'contiguous'
    where = setting['device_name'] + (f", threads: {setting['threads']}" if setting['device'] == 'cpu' else '')
    lines = [f"{setting['config']}",
             f"{setting['batch']} x {setting['height']} x {setting['width']}, {precision}, {memory}; {where}; "
             f"torch {setting['torch']}; medians of {setting['rounds']}", '']
    rows = [_row(part['name'], part) for part in cost['parts']]
    below = [_scale_row(scale) for scale in cost['scales']]
    if cost['fusion']:
        below.append(_row('  fusion', cost['fusion']))
    place = next((index for index, part in enumerate(cost['parts']) if part['name'] == 'backbone'), -1) + 1
    rows[place:place] = below
    lines.append(text_table(HEADER, [*rows, _row('total', total)]))
    lines.append('')
    for scale in cost['scales']:
        lines.append(f"scale {scale['scale']:g}: {scale['height']} x {scale['width']}, {percent(scale['share'])} of "
                     f"the pixels, {scale['policy']}")
    lines.append(f"training step: {1000 * (total['forward'] + total['backward']):.1f} ms, "
                 f"{total['training_macs'] / 1e9:.3f} GMAC forward and backward")
    if total['peak'] is not None:
        lines.append(f"peak memory of a training step over the built network: {total['peak'] / 1e6:.0f} MB")
    if cost['dead_parameters']:
        shown = ', '.join(cost['dead_parameters'][:5]) + (', …' if len(cost['dead_parameters']) > 5 else '')
        lines.append(f'dead (no gradient, or zeros only): {shown}')
    lines.append(f"GMAC is one prediction; {cost['not_counted']}")
    return '\n'.join(lines)


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    return [name, *(f'{found[key]:,}' for key in ('parameters', 'live', 'dead', 'frozen')), *_costs(found)]


def _scale_row(scale: Mapping[str, Any]) -> list[str]:
    return [f"  scale {scale['scale']:g}", '', '', '', '', *_costs(scale)]


def _costs(found: Mapping[str, Any]) -> list[str]:
    return [f"{found['macs'] / 1e9:.3f}", _number(found['forward'], 1e3), _number(found['backward'], 1e3),
            _number(found['kept'], 1e-6)]


def _number(value: float | None, factor: float) -> str:
    return '–' if value is None else f'{factor * value:.1f}'
