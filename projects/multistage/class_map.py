"""Which class of a teacher is which class of its student."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from projects.engine.config import nearest
from projects.engine.errors import UserError

KEY = 'distil.remap'
Remap = Sequence[Sequence[float]] | Mapping[str, str | Mapping[str, float] | None]


def class_map(teacher: Sequence[str] | None, student: Sequence[str] | None, remap: Remap | None,
              path: str) -> Tensor | None:
    """Return the matrix that maps a teacher's classes to a student's; None where they are the same in the same order.

    Args:
        teacher: The teacher's classes in order; None where its checkpoint and config name none.
        student: The student's classes in order; None where unknown.
        remap: None; a matrix, a row for each class of the teacher and a column for each of the student, each row's sum
            1 (or 0: the student has nothing of this class); or every class of the teacher by name with what it is:
            a class of the student, shares of several (``{'a': 0.7, 'b': 0.3}``), or None.
        path: The teacher's checkpoint, for messages.

    Returns:
        A float32 matrix (teacher's classes, student's classes), or None.

    Raises:
        UserError: The classes differ, or stand in another order, and there is no remap; or the remap is not one.
    """
    if remap is None:
        if not teacher or not student or tuple(teacher) == tuple(student):
            return None
        problem = ('the classes of the student in another order' if sorted(teacher) == sorted(student)
                   else 'other classes than the student')
        raise UserError(f'teacher {path}: {problem}: expected {", ".join(student)}; found {", ".join(teacher)} '
                        f'({KEY} says which is which)')
    if isinstance(remap, Mapping):
        if not teacher or not student:
            raise UserError(f'{KEY}: class names need classes on both sides: teacher {path} or the data set has none; '
                            'give a matrix')
        rows = _rows(teacher, student, remap)
    else:
        rows = [list(row) for row in remap]
    return _matrix(rows, teacher and len(teacher), student and len(student))


def _rows(teacher: Sequence[str], student: Sequence[str], remap: Mapping[str, Any]) -> list[list[float]]:
    for name in remap:
        if name not in teacher:
            raise UserError(f'{KEY}: the teacher has no class {name!r}{nearest(name, teacher)}')
    rows = []
    for name in teacher:
        if name not in remap:
            raise UserError(f'{KEY}: expected every class of the teacher (None leaves one out), {name!r} is missing')
        target = remap[name]
        shares = {} if target is None else {target: 1.0} if isinstance(target, str) else dict(target)
        for other in shares:
            if other not in student:
                raise UserError(f'{KEY}.{name}: the student has no class {other!r}{nearest(other, student)}')
        rows.append([float(shares.get(other, 0.0)) for other in student])
    return rows


def _matrix(rows: list[list[float]], height: int | None, width: int | None) -> Tensor:
    widths = {len(row) for row in rows}
    if not rows or len(widths) != 1 or (height or len(rows)) != len(rows) or width not in (None, *widths):
        raise UserError(f'{KEY}: expected {height or "some"} rows (classes of the teacher) of {width or "some"} '
                        f'numbers (classes of the student), found {len(rows)} of {", ".join(map(str, sorted(widths)))}')
    for index, row in enumerate(rows):
        total = sum(row)
        if min(row) < 0 or not (math.isclose(total, 1.0, abs_tol=1e-6) or total == 0):
            raise UserError(f'{KEY}.{index}: expected shares of at least 0 whose sum is 1 (or all 0), found {row}')
    return torch.tensor(rows, dtype=torch.float32)
