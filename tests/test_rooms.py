"""Which room may import which: tasks stand on the shared rooms, never the other way round, and never on each other.

Inside a room, too, imports go one way.
"""

import ast
from pathlib import Path

import pytest

PROJECTS = Path(__file__).resolve().parents[1] / 'projects'
TASKS = ('camouflage', 'landcover', 'lidar', 'roofline')
ROOMS = sorted(folder.name for folder in PROJECTS.iterdir() if any(folder.rglob('*.py')))


def imported(path):
    """Return the modules that a file imports, inside its functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: a relative import'
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return names


@pytest.mark.parametrize('room', ROOMS)
def test_no_room_imports_a_task_but_its_own(room):
    foreign = tuple(f'projects.{task}' for task in TASKS if task != room)
    found = {f'{path.relative_to(PROJECTS)}: {name}' for path in sorted((PROJECTS / room).rglob('*.py'))
             for name in imported(path) if f'{name}.'.startswith(tuple(f'{one}.' for one in foreign))}
    assert found == set()


def circles(folder, name):
    """Return the folders and modules of a package that import themselves by way of others, sorted."""
    needs = {}
    for path in sorted(folder.rglob('*.py')):
        part = path.relative_to(folder).parts[0].removesuffix('.py')
        parts = {one.removeprefix(f'{name}.').split('.')[0] for one in imported(path) if one.startswith(f'{name}.')}
        needs.setdefault(part, set()).update(parts - {part})
    for middle in needs:  # Warshall
        for part, found in needs.items():
            if middle in found:
                needs[part] = found | needs[middle]
    return sorted(part for part, found in needs.items() if part in found)


@pytest.mark.parametrize('room', ROOMS)
def test_no_folder_of_a_room_imports_one_that_imports_it(room):
    assert circles(PROJECTS / room, f'projects.{room}') == []


def test_the_walk_sees_what_it_looks_for(tmp_path):
    (tmp_path / 'a.py').write_text('from projects import landcover\ndef f():\n    import projects.camouflage.x as y\n')
    assert imported(tmp_path / 'a.py') == {'projects.landcover', 'projects.camouflage.x'}
    for name, text in (('a', 'import p.b.x'), ('b/x', 'from p import c'), ('c', 'import p.a.y'), ('d', 'import p.b')):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f'{name}.py').write_text(text)
    assert circles(tmp_path, 'p') == ['a', 'b', 'c']
