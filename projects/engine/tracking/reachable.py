"""Whether Weights & Biases can be spoken to, found out in seconds and without importing it."""

import configparser
import netrc
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from projects.engine.errors import UserError

SECONDS = 3.0
MODES = {'online': 'online', 'run': 'online', 'offline': 'offline', 'dryrun': 'offline', 'disabled': 'disabled'}


def wanted(environment: Mapping[str, str] | None = None) -> str | None:
    """Return what ``WANDB_MODE`` asks for: ``online``, ``offline``, ``disabled`` or None.

    Raises:
        UserError: It holds something else.
    """
    environment = os.environ if environment is None else environment
    if environment.get('WANDB_DISABLED', '').lower() in ('true', '1', 'yes'):
        return 'disabled'
    mode = environment.get('WANDB_MODE', '')
    if mode and mode not in MODES:
        raise UserError(f'WANDB_MODE: expected online, offline or disabled, found {mode!r}')
    return MODES.get(mode)


def base_url(environment: Mapping[str, str] | None = None) -> str:
    """Return the server's address: ``WANDB_BASE_URL``, else the one of ``wandb login --host``, else the public one."""
    environment = os.environ if environment is None else environment
    if environment.get('WANDB_BASE_URL'):
        return environment['WANDB_BASE_URL']
    folder = Path(environment.get('WANDB_CONFIG_DIR') or Path.home() / '.config' / 'wandb')
    settings = configparser.ConfigParser()
    try:
        settings.read(folder / 'settings')
        return settings.get('default', 'base_url', fallback='https://api.wandb.ai')
    except (configparser.Error, OSError, UnicodeDecodeError):
        return 'https://api.wandb.ai'


def has_key(environment: Mapping[str, str] | None = None) -> bool:
    """Say whether there is a key for the server: in the environment or in the netrc file."""
    environment = os.environ if environment is None else environment
    if environment.get('WANDB_API_KEY') or environment.get('WANDB_IDENTITY_TOKEN_FILE'):
        return True
    path = Path(environment.get('NETRC') or Path.home() / '.netrc').expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(urlsplit(base_url(environment)).hostname or '') is not None
    except (OSError, netrc.NetrcParseError):
        return False


def answers(url: str, seconds: float = SECONDS) -> bool:
    """Say whether anything answers HTTP at an address (through the proxies of the environment) within some seconds."""
    found: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=seconds).close()
            found.append(True)
        except urllib.error.HTTPError:  # it speaks
            found.append(True)
        except Exception:  # refused, no route, no name, no certificate, no answer, no URL
            found.append(False)

    # A thread, because looking up a name has no time limit of its own.
    thread = threading.Thread(target=ask, name='wandb-probe', daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(found and found[0])


def choose_mode(environment: Mapping[str, str] | None = None) -> tuple[str, str | None]:
    """Return ``online``, ``offline`` or ``disabled``, and a line of warning where that is not what was asked for."""
    try:
        mode = wanted(environment)
    except UserError as error:
        return 'offline', str(error)
    if mode in ('disabled', 'offline'):
        return mode, None
    if not has_key(environment):
        return 'offline', 'WANDB_MODE=online, but there is no key (wandb login)' if mode == 'online' else None
    url = base_url(environment)
    if not answers(url):
        return 'offline', f'{urlsplit(url).hostname} does not answer within {SECONDS:g} s'
    return 'online', None
