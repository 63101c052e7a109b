"""What every tool shares: one line for a user's mistake, a non-zero exit, no traceback."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from projects.engine.errors import REQUEUE, Preempted, UserError, told
from projects.engine.options import read_options


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f'{message} (see {self.prog} --help)')


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options KEY=VALUE …``: dotted paths and values, as :mod:`projects.engine.options` reads them."""
    parser.add_argument('--cfg-options', nargs='+', action=_Options, metavar='KEY=VALUE',
                        help='override existing keys of the config by dotted path')


class _Options(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), **read_options(values)})


def run(main: Callable[[], int | None], preemptible: bool = False) -> None:
    """Run a tool's ``main`` and leave the process with its status.

    Args:
        main: The tool.
        preemptible: SIGTERM and SIGUSR1 mean status 75 from the first moment on: there is nothing to save yet.
            :class:`projects.engine.preemption.PreemptionHook` takes them over.

    A :class:`UserError` becomes ``error: MESSAGE`` on standard error and status 2; an interrupt becomes status 130; a
    training that saved and stopped because a scheduler asked becomes status 75. ``TERRACE_DEBUG=1`` shows the traceback
    instead. Where a launcher hides its processes' status, they leave it in the file ``TERRACE_STATUS_FILE``;
    Slurm, which kills the other tasks with the first status that is not 0, gets ``TERRACE_REQUEUE_STATUS`` for 75.
    """
    if preemptible:
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, _nothing_to_save)
    try:
        status = main()
    except Preempted as stop:
        if os.environ.get('RANK', '0') == '0':
            sys.stderr.write(f'stopped: {stop}\n')
        status = REQUEUE
    except UserError as error:
        if os.environ.get('TERRACE_DEBUG') == '1':
            raise
        sys.stdout.flush()
        rank = os.environ.get('RANK', '0')  # every rank speaks: what one of them alone has met, only it can tell
        where = '' if rank == '0' else f'(rank {rank}) '
        sys.stderr.write(f'error: {where}{told(error)}\n')
        status = 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not preemptible:  # the reader went away (`| head`): no failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        if os.environ.get('TERRACE_DEBUG') == '1':
            raise
        sys.stderr.write(f'error: {error.filename or "system"}: {error.strerror or error}\n')
        status = 2
    except KeyboardInterrupt:
        sys.stderr.write('interrupted\n')
        status = 130
    except BaseException:
        _leave_status(1)
        raise
    _leave_status(status or 0)
    sys.exit(int(os.environ.get('TERRACE_REQUEUE_STATUS', status)) if status == REQUEUE else status or 0)


def _nothing_to_save(number: int, frame: Any) -> NoReturn:
    for other in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(other, signal.SIG_IGN)  # once is enough
    raise Preempted(f'{signal.Signals(number).name} before the training began, there is nothing to save; '
                    '--resume continues')


def _leave_status(status: int) -> None:
    """Tell the script that started several processes (tools/distributed.sh): torchrun ends with 1 whatever happened."""
    path = os.environ.get('TERRACE_STATUS_FILE')
    if path and status:
        with open(path, 'a', encoding='utf-8') as file:
            file.write(f'{status}\n')
