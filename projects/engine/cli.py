"""What every tool shares: one line for a user's mistake, a non-zero exit, no traceback."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from projects.engine.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f'{message} (see {self.prog} --help)')


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options KEY=VALUE …``: dotted paths and values."""
    from mmengine.config import DictAction  # here: mmengine brings torch, and the data tools do without

    class Options(DictAction):
        def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
            for value in values:
                if '=' not in value:
                    raise UserError(f'--cfg-options: expected KEY=VALUE, found {value!r}')
            super().__call__(parser, namespace, values, option_string)

    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
                        help='override existing keys of the config by dotted path')


def run(main: Callable[[], int | None]) -> None:
    """Run a tool's ``main`` and leave the process with its status.

    A :class:`UserError` becomes ``error: MESSAGE`` on standard error and status 2; an interrupt becomes status 130.
    ``TERRACE_DEBUG=1`` shows the traceback instead.
    """
    try:
        status = main()
    except UserError as error:
        if os.environ.get('TERRACE_DEBUG') == '1':
            raise
        sys.stdout.flush()
        rank = os.environ.get('RANK', '0')  # every rank speaks: what one of them alone has met, only it can tell
        where = '' if rank == '0' else f'(rank {rank}) '
        text = str(error).rpartition('UserError: ')[2]  # raised in a data-loader worker, torch wraps it in a traceback
        sys.stderr.write(f'error: {where}{" ".join(text.split())}\n')
        status = 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader went away (`| head`): not the tool's failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        if os.environ.get('TERRACE_DEBUG') == '1':
            raise
        sys.stderr.write(f'error: {error.filename or "system"}: {error.strerror or error}\n')
        status = 2
    except KeyboardInterrupt:
        sys.stderr.write('interrupted\n')
        status = 130
    sys.exit(status or 0)
