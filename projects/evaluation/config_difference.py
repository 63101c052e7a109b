"""What the resolved configs of several runs differ in, key by key. Nothing in them is executed."""

import ast
from collections.abc import Iterator, Sequence

# Where a run lies, what it loaded and how it was seeded is told elsewhere.
LEFT_OUT = ('work_dir', 'load_from', 'resume', 'randomness', 'experiment_name', 'experiment', 'launcher', 'cfg')


def config_differences(texts: Sequence[str]) -> list[tuple[str, list[str | None]]]:
    """Return each dotted key that is not the same everywhere, and its value in each config as it is written.

    Args:
        texts: Python configs of assignments, as MMEngine writes them. One that does not parse counts as empty.

    Returns:
        Keys in the order of the first config that has them; None where a config does not have the key. What is equal
        below a key that all have is left out.
    """
    flat = [dict(_flatten(text)) for text in texts]
    keys = dict.fromkeys(key for one in flat for key in one)
    return [(key, [one.get(key) for one in flat]) for key in keys if len({one.get(key) for one in flat}) > 1]


def _flatten(text: str) -> Iterator[tuple[str, str]]:
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return
    for line in body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) and (
                line.targets[0].id not in LEFT_OUT):
            yield from _leaves(line.targets[0].id, line.value)


def _leaves(key: str, node: ast.expr) -> Iterator[tuple[str, str]]:
    """Yield the values below a node: dicts by key, lists of dicts by index, all else as it is written."""
    items: list[tuple[str, ast.expr]] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        items = [(str(keyword.arg), keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        items = [(str(name.value) if isinstance(name, ast.Constant) else '?', value)
                 for name, value in zip(node.keys, node.values)]
    elif isinstance(node, ast.List | ast.Tuple) and any(isinstance(item, ast.Call | ast.Dict | ast.List)
                                                        for item in node.elts):
        items = [(str(index), value) for index, value in enumerate(node.elts)]
    if not items:
        yield key, ast.unparse(node)
    for name, value in items:
        yield from _leaves(f'{key}.{name}', value)
