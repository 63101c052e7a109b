"""Serve the review page: one process, one decisions file, this machine only unless a token is given."""

import os
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from projects.engine.errors import UserError
from projects.engine.lock import held
from projects.landcover.data.candidates import read_candidates
from projects.landcover.data.decisions import DECISIONS_NAME
from projects.landcover.review.guard import Guard, check_access, is_loopback
from projects.landcover.review.session import Session

SHUTDOWN_SECONDS = 2  # open pages get so long to close their connection
BUSY = 'is serving its review; stop that one first, or choose other --decisions'


def lock_of(decisions: Path) -> Path:
    """Return the lock file of a decisions file: two servers would each append without knowing the other's rows."""
    return decisions.with_name(f'.{decisions.name}.lock')


def serve(candidates: str | Path, decisions: str | Path | None = None, host: str = '127.0.0.1', port: int = 0,
          token: str | None = None, open_browser: bool = False, announce: Callable[[str], None] | None = None) -> None:
    """Serve the review page until Ctrl-C or SIGTERM.

    Args:
        candidates: The candidates folder.
        decisions: CSV or JSON file to append to; default `decisions.csv` in the candidates folder.
        host: Where to listen; anything but this machine needs a token.
        port: 0 takes a free one.
        token: Whoever opens the page has to have it.
        open_browser: Open the page in this machine's browser.
        announce: Takes lines for the user: the address, and how far the review is at the end. Default: standard output.

    Raises:
        UserError: candidates or decisions do not fit, the port is taken, another server has the decisions file, or the
            token is missing.
    """
    announce = announce or _say
    check_access(host, token)
    session_of = read_candidates(candidates)
    if not session_of.items:
        raise UserError(f'{candidates}: all its samples were filtered away since: nothing to review')
    path = Path(decisions) if decisions is not None else Path(candidates) / DECISIONS_NAME
    if path.suffix.lower() not in ('.csv', '.json'):
        raise UserError(f'{path}: expected a .csv or .json file for the decisions')
    # NiceGUI looks there for stored things when it is imported: not in whatever folder this was started from.
    os.environ['NICEGUI_STORAGE_PATH'] = str(session_of.folder.resolve() / '.nicegui')
    try:
        import uvicorn
        from fastapi import FastAPI
        from nicegui import ui
    except ImportError as error:
        raise UserError(f'the review page needs {error.name}: pip install -r requirements/review.txt') from error
    with held(lock_of(path), path, BUSY), closing(listen(host, port)) as listener:
        session = Session(session_of, path)
        if session.foreign:
            announce(f'{path}: {len(session.foreign)} samples are no candidates here, first {session.foreign[0]!r}')
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        from projects.landcover.review.page import FAVICON, add_page

        add_page(app, session)
        ui.run_with(app, title='Label review', favicon=FAVICON, dark=None, tailwind=False, language='en-GB',
                    show_welcome_message=False, reconnect_timeout=30)
        config = uvicorn.Config(Guard(app, host, token), log_level='warning', access_log=False, lifespan='on',
                                server_header=False, date_header=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS)
        url = address(host, listener.getsockname()[1], token)
        server = uvicorn.Server(config)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn hands on what it got
        try:
            announce(f'Review {len(session_of.items)} labels at {url}   (Ctrl-C ends; decisions: {path})')
            if open_browser:
                threading.Timer(1.0, webbrowser.open, (url,)).start()
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)
        counts = session.counts()
        announce(f'{counts.decided} of {counts.total} decided: {counts.kept} kept, {counts.replaced} replaced, '
                 f'{counts.skipped} skipped ({path})')


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        UserError: host or port cannot be had.
    """
    if not 0 <= port <= 65535:  # the system would take it modulo 65536
        raise UserError(f'--port: expected 0 to 65535, found {port}')
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host.strip('[]'), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f'--host {host}: {error.strerror or error}') from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UserError(f'--host {host} --port {port}: {error.strerror or error}') from error
    return listener


def address(host: str, port: int, token: str | None) -> str:
    """Return the address of the page as a browser takes it."""
    if host in ('0.0.0.0', '::'):
        host = socket.gethostname()
    if ':' in host and not host.startswith('['):
        host = f'[{host}]'
    elif is_loopback(host):
        host = host.lower()
    return f'http://{host}:{port}/' + (f'?token={quote(token, safe="")}' if token else '')


def _say(line: str) -> None:
    sys.stdout.write(f'{line}\n')
    sys.stdout.flush()
