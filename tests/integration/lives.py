"""A training and the processes that end it: python lives.py PLAN.json.

The plan names a config and runs; each run is a work directory and a list of lives, which may name another config. A
life trains (with ``--resume auto``) in a process of its own and ends by itself, by a fail point, or by a signal: a
``fraction`` of the time that the first life of all took after its ``log`` shows some text. A life of several ``ranks``
ends as its first one. Everything is imported once and each life is forked, so that a life costs its training and not
five seconds of imports. How each life ended goes to PLAN.done.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch

import projects.engine.register  # noqa: F401
from projects.engine.cli import run
from projects.engine.startup import start
from projects.engine.training import train


def live(config: str, work_dir: str, life: dict, whole: float) -> int:
    """Fork a training, end it as the life says, and return its exit code, negative for a signal."""
    log = Path(f'{work_dir}.log')
    seen = log.stat().st_size if log.exists() else 0
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.environ.update(life.get('environment', {}))
        launcher = _fork_ranks(life['ranks']) if 'ranks' in life else 'none'
        try:
            run(lambda: train(config, work_dir=work_dir, resume='auto', cfg_options=life.get('options'),
                              launcher=launcher) and None)
        except SystemExit as end:
            os._exit(end.code)  # what a tool's process does, without the cleaning up of this one's parent
    until = life.get('log', '')
    limit = time.monotonic() + 120
    while until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= limit or (log.exists() and until.encode() in log.read_bytes()[seen:]):
            time.sleep(life.get('fraction', 0) * whole)
            os.kill(pid, getattr(signal, life.get('signal', 'SIGKILL')))
            break
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork_ranks(number: int) -> str:
    """Make this process the first of several, as torchrun would; return the launcher."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    rank = next((rank for rank in range(1, number) if os.fork() == 0), 0)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(number), LOCAL_WORLD_SIZE=str(number),
                      MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    return 'pytorch'


def main() -> None:
    path = Path(sys.argv[1])
    plan = json.loads(path.read_text())
    start()
    import mmseg.models  # noqa: F401
    ended, whole = {}, 0.0
    for work_dir, lives in plan['runs'].items():
        os.makedirs(work_dir, exist_ok=True)
        ended[work_dir] = []
        for life in lives:
            begun = time.monotonic()
            ended[work_dir].append(live(life.get('config', plan.get('config')), work_dir, life, whole))
            whole = whole or time.monotonic() - begun
    path.with_suffix('.done').write_text(json.dumps(ended))


if __name__ == '__main__':
    main()
