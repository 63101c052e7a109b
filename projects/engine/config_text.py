"""The keys and values of a config's resolved text. Nothing in it is executed."""

import ast
from collections.abc import Iterator


def flat_config(text: str) -> dict[str, str]:
    """Return each dotted key of a text of assignments, and its value as it is written.

    Args:
        text: As MMEngine writes a config. One that does not parse counts as empty.

    Returns:
        Dicts are taken apart by key, lists of dicts by index; in the order of the text.
    """
    try:
        body = ast.parse(text).body
        return {key: value for line in body if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
                for key, value in _leaves(line.targets[0].id, line.value)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def changed_keys(before: str, after: str) -> list[str]:
    """Return the dotted keys whose values differ between two texts."""
    old, new = flat_config(before), flat_config(after)
    return [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]


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
