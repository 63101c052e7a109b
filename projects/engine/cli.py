"""What every tool shares: one line for a user's mistake, a non-zero exit, no traceback."""

import os
import sys
from collections.abc import Callable

from projects.engine.errors import UserError


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
        text = str(error).rpartition('UserError: ')[2]  # raised in a data-loader worker, torch wraps it in a traceback
        sys.stderr.write('error: ' + ' '.join(text.split()) + '\n')
        status = 2
    except KeyboardInterrupt:
        sys.stderr.write('interrupted\n')
        status = 130
    except BrokenPipeError:  # the reader went away (`| head`): not the tool's failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status or 0)
