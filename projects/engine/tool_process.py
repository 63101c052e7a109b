"""Run one of the project's tools as a process of its own, as the benchmarks do."""

import os
import subprocess
import sys
from pathlib import Path

from projects.engine.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def run_tool(name: str, *arguments: object, log: Path) -> float:
    """Run ``tools/<name>`` on one thread, without W&B, its output appended to ``log``.

    Returns:
        The CPU seconds that it and its workers took.

    Raises:
        UserError: It ended with another status than 0; quotes the last line of the log.
    """
    with open(log, 'a') as output:
        process = subprocess.Popen(
            [sys.executable, ROOT / 'tools' / name, *map(str, arguments)], stdout=output, stderr=output,
            env=dict(os.environ, OMP_NUM_THREADS='1', WANDB_MODE='disabled'))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = log.read_text().strip().splitlines()[-1:]
        raise UserError(f'tools/{name} ended with status {process.returncode}: {"".join(last)} (all in {log})')
    return usage.ru_utime + usage.ru_stime
