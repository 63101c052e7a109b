"""Whether a stage has gained on another one: the same metric, on the same split of the same data, or no comparison."""

from collections.abc import Mapping
from typing import Any

from projects.engine.config import nearest
from projects.multistage.chain.stages import Gate

VERDICTS = ('passed', 'failed', 'incomparable')


def judge(stage: str, gate: Gate, own: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, Any]:
    """Compare two stages' results.

    Args:
        stage: Name of the stage that has the gate.
        gate: The gate.
        own: The stage's result, of :mod:`projects.multistage.chain.results`.
        other: The gate parent's; None where that is not complete.

    Returns:
        For ``chain.json``: the gate's values, ``verdict`` (one of :data:`VERDICTS`), ``value``, ``parent_value``,
        ``gain``, ``same_budget`` (None where a side was not trained) and ``text``, which says all that in one line.
    """
    record: dict[str, Any] = {'parent': gate.parent, 'metric': gate.metric, 'min_gain': gate.min_gain,
                              'split': gate.split, 'verdict': 'incomparable', 'value': None, 'parent_value': None,
                              'gain': None, 'same_budget': None}
    label = f'gate {stage} against {gate.parent} ({gate.metric}, {gate.split})'
    sides = []
    for name, result in ((stage, own), (gate.parent, other)):
        measure = ((result or {}).get('measures') or {}).get(gate.split)
        if result is None or measure is None:
            why = 'is not complete' if result is None else f'has no scores of the split {gate.split}'
            return {**record, 'text': f'{label}: no comparison is possible: {name} {why}'}
        if measure['metrics'].get(gate.metric) is None:
            return {**record, 'text': f'{label}: no comparison is possible: {name} has no {gate.metric}'
                                      f'{nearest(gate.metric, measure["metrics"])}'}
        sides.append(measure)
    if sides[0]['data'] is None or sides[0]['data'] != sides[1]['data']:
        numbers = ' and '.join(f'{side["samples"] or "?"} samples of {name}' for side, name in
                               zip(sides, (stage, gate.parent)))
        return {**record, 'text': f'{label}: no comparison is possible: they were scored on different data ({numbers})'}
    value, parent_value = (side['metrics'][gate.metric] for side in sides)
    gain = value - parent_value
    passed = gain >= gate.min_gain - 1e-12
    budgets = [result.get('budget') for result in (own, other)]
    same = None if None in budgets else budgets[0] == budgets[1]
    told = {None: '', True: ', the same budget',
            False: f', budgets differ: {budgets[0]:,} and {budgets[1]:,} samples' if same is False else ''}[same]
    text = (f'{label}: {"passed" if passed else "FAILED"}: {value:.4f} against {parent_value:.4f}, gain {gain:+.4f} '
            f'(at least {gate.min_gain:+g}){told}')
    return {**record, 'verdict': 'passed' if passed else 'failed', 'value': value, 'parent_value': parent_value,
            'gain': round(gain, 6), 'same_budget': same, 'text': text}
