"""What ends a run in order: a mistake that the user can mend, or a scheduler that wants the machine back."""


class UserError(Exception):
    """Bad input, told in one line: the file, the key, what was expected and what was found.

    Tools print it as ``error: MESSAGE`` and exit with status 2 (see :func:`projects.engine.cli.run`). Library code
    raises it wherever the user, and not the program, has to change something.
    """


class Preempted(Exception):
    """A signal asked a training to stop; everything is saved. Tools exit with :data:`REQUEUE`."""


def told(error: BaseException) -> str:
    """Return an error's message on one line; torch wraps one that a data-loader worker raised in a traceback."""
    return ' '.join(str(error).rpartition('UserError: ')[2].split())


REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, run me again
