"""A tool as a process: what it costs, and how its failure is told."""

import pytest

from projects.engine.errors import UserError
from projects.engine.tool_process import run_tool


def test_the_cpu_seconds_of_a_tool_and_the_last_line_of_one_that_fails(tmp_path):
    log = tmp_path / 'log.txt'
    seconds = run_tool('lineage.py', '--help', log=log)
    assert 0.05 < seconds < 60 and 'usage' in log.read_text()
    with pytest.raises(UserError, match=r'tools/lineage.py ended with status 2: error: .*nowhere.*all in .*log.txt'):
        run_tool('lineage.py', tmp_path / 'nowhere', log=log)
    assert 'usage' in log.read_text()  # what was there stays
