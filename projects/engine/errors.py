"""The one error type that a user is meant to read."""


class UserError(Exception):
    """Bad input, told in one line: the file, the key, what was expected and what was found.

    Tools print it as ``error: MESSAGE`` and exit with status 2 (see :func:`projects.engine.cli.run`). Library code
    raises it wherever the user, and not the program, has to change something.
    """
