"""Values of ``--cfg-options KEY=VALUE``: as MMEngine writes them, but a text stays as it is.

==========================  ==================================================================================
``3``  ``1e-4``             a number
``True``  ``false``         a truth value; ``None`` is None
``[1,2]``  ``(a, b)``       a list, a tuple; nested too; spaces around elements do not count
``1,2``                     a list
``Forest Land``             a text, with its spaces
``'1, 2'``  ``"None"``      a text, whatever stands between the quotes (the shell must leave them: ``"x='1, 2'"``)
``"[1,2]"``                 a list: MMEngine's way to quote one, with double quotes
==========================  ==================================================================================

MMEngine's own ``DictAction`` deletes spaces ('Forest Land' becomes 'ForestLand') and quotes.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from projects.engine.errors import UserError

QUOTES = '\'"'
CLOSING = {'(': ')', '[': ']'}
WORDS = {'true': True, 'false': False}


def read_assignment(pairs: Iterable[str] | None, splits: Iterable[str], names: str) -> dict[str, list[str]] | None:
    """Read ``--assign SPLIT=NAME[,NAME]``: the names of each split; None where nothing was given.

    Args:
        pairs: The arguments.
        splits: What a split may be called.
        names: What the names are of, for messages: ``GROUP``.

    Raises:
        UserError: An argument is not of that form.
    """
    if pairs is None:
        return None
    assignment: dict[str, list[str]] = {}
    for pair in pairs:
        split, sign, found = pair.partition('=')
        if split not in splits or not sign or not found:
            raise UserError(f'--assign: expected SPLIT={names}[,{names}] with a split of {tuple(splits)}, '
                            f'found {pair!r}')
        assignment.setdefault(split, []).extend(found.split(','))
    return assignment


def read_options(arguments: Iterable[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` arguments; of a key that is given twice the last one counts.

    Raises:
        UserError: There is no ``=``, or brackets or quotes do not match.
    """
    options = {}
    for argument in arguments:
        key, sign, text = argument.partition('=')
        if not sign:
            raise UserError(f'--cfg-options: expected KEY=VALUE, found {argument!r}')
        try:
            options[key] = read_value(text)
        except ValueError as error:
            raise UserError(f'--cfg-options {key}: {error} in {text!r}; a text with commas stands in quotes') from error
    return options


def read_value(text: str) -> Any:
    """Read one value.

    Raises:
        ValueError: Brackets or quotes of a list do not match.
    """
    bare = text.strip()
    if len(bare) > 1 and bare[0] in QUOTES and bare.find(bare[0], 1) == len(bare) - 1:
        inner = bare[1:-1]
        return read_value(inner) if bare[0] == '"' and inner[:1] in CLOSING and inner[-1] in ')]' else inner
    if bare[:1] in CLOSING and bare.endswith(CLOSING[bare[0]]) and _end(bare) == len(bare) - 1:
        values = [read_value(part.strip()) for part in _split(bare[1:-1].strip())]
        return tuple(values) if bare[0] == '(' else values
    parts = _split(bare) if ',' in bare else [bare]
    return _read_single(text) if parts == [bare] else [read_value(part.strip()) for part in parts]


def write_value(value: Any, element: bool = False) -> str:
    """Write a value so that :func:`read_value` gives the same.

    Args:
        value: A number, text, truth value, None, or lists and tuples of such.
        element: Of a list.

    Raises:
        ValueError: It cannot be written.
    """
    if isinstance(value, (list, tuple)):
        inner = ','.join(write_value(item, element=True) for item in value)
        return f'({inner})' if isinstance(value, tuple) else f'[{inner}]'
    ways = [str(value), f"'{value}'", f'"{value}"'] if isinstance(value, str) else [str(value)]
    for text in ways:
        try:
            read = read_value(f'[{text}]') if element else [read_value(text)]
        except ValueError:
            continue
        if read == [value] and type(read[0]) is type(value):
            return text
    raise ValueError(f'{value!r} cannot be written as a value of --cfg-options')


def _read_single(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    bare = text.strip()
    return None if bare == 'None' else WORDS.get(bare.lower(), text)


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets and quotes; one at the end adds no element."""
    commas = [index for index, sign, depth in _signs(text) if sign == ',' and not depth]
    parts = [text[start + 1:end] for start, end in zip([-1, *commas], [*commas, len(text)])]
    return parts if parts[-1] else parts[:-1]


def _end(text: str) -> int:
    """Return where the bracket closes with which a text begins."""
    return next(index for index, _, depth in _signs(text) if not depth)


def _signs(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield place, sign and depth after it of every comma and bracket outside quotes; an element may begin with one."""
    opened: list[str] = []
    quote, begins = '', True
    for index, sign in enumerate(text):
        if quote:
            quote = '' if sign == quote else quote
            continue
        if sign in QUOTES and begins:
            quote = sign
        elif sign in CLOSING:
            opened.append(CLOSING[sign])
        elif sign in ')]' and (not opened or opened.pop() != sign):
            raise ValueError('brackets do not match')
        if sign in ',()[]':
            yield index, sign, len(opened)
        begins = sign in ',([' or (begins and sign == ' ')
    if opened or quote:
        raise ValueError('brackets do not match' if opened else 'a quote is not closed')
