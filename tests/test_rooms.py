"""Which room may import which: tasks stand on the shared rooms, never the other way round, and never on each other."""

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


def test_the_walk_sees_what_it_looks_for(tmp_path):
    (tmp_path / 'a.py').write_text('from projects import landcover\ndef f():\n    import projects.camouflage.x as y\n')
    assert imported(tmp_path / 'a.py') == {'projects.landcover', 'projects.camouflage.x'}
