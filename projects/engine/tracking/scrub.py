"""Take keys, home directories and user names out of what leaves the machine."""

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.private import home_pattern

HIDDEN = '***'
SECRET_NAME = re.compile(r'(?i)(?:^|[_.\-])(?:api_?key|key|token|secret|password|passwd|credentials?)(?:_id)?$')
SECRETS = (  # what is hidden is what follows the first group
    re.compile(r'(://)[^/\s@]+(?=@)'),  # https://user:token@host
    re.compile(r'(?i)((?:key|token|secret|password|passwd)[=:]\s*)[^\s&\'",]{8,}'),
    re.compile(r'(\b)(?:sk|pk|hf|gh[pousr]|github_pat|glpat|xox[abp]|wandb_v1)[-_][A-Za-z0-9_-]{16,}'),
    re.compile(r'(\b)AKIA[0-9A-Z]{16}\b'))
HOMES = re.compile(r'(?<![\w.~-])/(?:home|Users)/[^/\s:\'"]+')
INNER_HOMES = re.compile(r'(?<=[\w.~-])(/(?:home|Users)/)[^/\s:\'"]+')  # /cluster/home/ann


class Scrubber:
    """Replaces secrets by ``***`` and home directories by ``~`` in texts and in whatever holds texts.

    A secret is the value (eight characters or more) of an environment variable whose name ends in key, token, secret,
    password or credentials; a text under such a name in a mapping; credentials in a URL; and keys of well-known form.

    Args:
        environment: Default :data:`os.environ`.
        home: Default the user's.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, home: str | Path | None = None) -> None:
        environment = os.environ if environment is None else environment
        secrets = {value for name, value in environment.items() if SECRET_NAME.search(name) and len(value) >= 8}
        self.secrets = sorted(secrets, key=len, reverse=True)  # a secret may hold another
        self.home = home_pattern(home)
        user = _user()
        self.user = re.compile(rf'(?<=/){re.escape(user)}(?=/|$)') if user not in ('', 'root') else None

    def text(self, value: str) -> str:
        """Scrub one text."""
        for secret in self.secrets:
            value = value.replace(secret, HIDDEN)
        for pattern in SECRETS:
            value = pattern.sub(rf'\g<1>{HIDDEN}', value)
        if self.home:
            value = self.home.sub('~', value)
        value = INNER_HOMES.sub(r'\g<1>user', HOMES.sub('~', value))
        return self.user.sub('user', value) if self.user else value

    def __call__(self, value: Any) -> Any:
        """Scrub anything; mappings and sequences become plain dicts and lists, what JSON does not know its text."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): HIDDEN if isinstance(item, str) and item and SECRET_NAME.search(str(key))
                    and str(key).lower() != 'key' else self(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        return self.text(str(value))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ''
