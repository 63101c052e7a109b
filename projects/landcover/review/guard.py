"""Who may speak to the review server: this machine, or whoever has the token; never a foreign web page."""

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from projects.engine.errors import UserError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

LEAST_TOKEN = 16  # characters
COOKIE = 'terrace_review'
HEADERS = {
    # Whatever the page's library may think of, the browser asks nobody else for anything.
    'content-security-policy': "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src "
                               "'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; connect-src "
                               "'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'cross-origin-resource-policy': 'same-origin',
}


def is_loopback(host: str) -> bool:
    """Say whether a host name or address means this machine only."""
    if host.lower() == 'localhost':
        return True
    try:
        return ipaddress.ip_address(host.strip('[]')).is_loopback
    except ValueError:
        return False


def check_access(host: str, token: str | None) -> None:
    """Refuse to listen to a network without a token, or with one that is soon guessed.

    Raises:
        UserError: so it is.
    """
    if token is None:
        if not is_loopback(host):
            raise UserError(f'--host {host}: whoever reaches it could change decisions: give a --token too, or listen '
                            'to 127.0.0.1 and tunnel (ssh -L)')
    elif len(token) < LEAST_TOKEN:
        raise UserError(f'--token: expected at least {LEAST_TOKEN} characters, found {len(token)} (--token without a '
                        'value makes one)')


class Guard:
    """An ASGI application in front of another one, for HTTP and WebSockets alike.

    - Listening to this machine only, it answers to this machine's names only: a foreign page whose name was made to
      point to 127.0.0.1 (DNS rebinding) is refused.
    - Whatever has an ``Origin`` must come from the page itself: foreign pages may send requests and open WebSockets to
      127.0.0.1.
    - With a token, each request needs it: once as ``?token=``, which is answered by a cookie and an address without it.

    Args:
        app: The application behind.
        host: Where the server listens.
        token: See :func:`check_access`.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], host: str, token: str | None) -> None:
        check_access(host, token)
        self.app = app
        self.local = is_loopback(host)
        self.digest = None if token is None else _digest(token)
        # The cookie holds a digest: any token fits, and one of another server on this host does not get in the way.
        self.cookie = COOKIE if self.digest is None else f'{COOKIE}_{_digest(self.digest)[:8]}'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for name, value in scope['headers']:
            key = name.decode('latin-1').lower()
            joint = '; ' if key == 'cookie' else ', '
            headers[key] = f'{headers[key]}{joint}{value.decode("latin-1")}' if key in headers else value.decode(
                'latin-1')
        reason = self.foreign(headers)
        if reason:
            await self._refuse(scope, receive, send, 403, reason)
            return
        if self.digest is not None and not self._has_cookie(headers):
            query = parse_qsl(scope.get('query_string', b'').decode('latin-1'), keep_blank_values=True)
            tokens = [value for key, value in query if key == 'token']
            if scope['type'] != 'http' or not tokens or not self._fits(_digest(tokens[0])):
                await self._refuse(scope, receive, send, 401, 'token needed: open the address that the tool printed')
                return
            rest = urlencode([pair for pair in query if pair[0] != 'token'])
            await _answer(send, 303, '', {
                # One slash only: '//name' would lead to another host.
                'location': '/' + scope['path'].lstrip('/') + (f'?{rest}' if rest else ''),
                'set-cookie': f'{self.cookie}={self.digest}; Path=/; HttpOnly; SameSite=Strict',
            })
            return

        async def send_guarded(message: Any) -> None:
            if message['type'] == 'http.response.start':
                given = {name.lower() for name, _ in message.get('headers', [])}
                message = {**message, 'headers': [*message.get('headers', []), *(
                    (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given)]}
            await send(message)

        await self.app(scope, receive, send_guarded)

    def foreign(self, headers: dict[str, str]) -> str | None:
        """Return why a request with these headers (lower-case names) is not from the own page; None if it may be."""
        host = headers.get('host', '')
        try:
            name = urlsplit(f'//{host}').hostname or ''
            origin = urlsplit(headers['origin']).netloc if 'origin' in headers else host
        except ValueError:
            return 'Host or Origin is malformed'
        if self.local and not is_loopback(name):
            return f'Host: expected localhost or 127.0.0.1, found {name!r}'
        if origin.lower() != host.lower():
            return 'Origin: another page has no business here'
        return None

    def _has_cookie(self, headers: dict[str, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get('cookie', '')).get(self.cookie)
        except CookieError:
            return False
        return cookie is not None and self._fits(cookie.value)

    def _fits(self, digest: str) -> bool:
        return hmac.compare_digest(digest.encode(), str(self.digest).encode())

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
        if scope['type'] == 'websocket':
            await receive()
            await send({'type': 'websocket.close', 'code': 1008})
        else:
            await _answer(send, status, f'refused: {reason}\n', {})


async def _answer(send: Send, status: int, text: str, headers: dict[str, str]) -> None:
    lines = {'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store', **HEADERS, **headers}
    await send({'type': 'http.response.start', 'status': status,
                'headers': [(name.encode('latin-1'), value.encode('latin-1', 'replace'))
                            for name, value in lines.items()]})
    await send({'type': 'http.response.body', 'body': text.encode()})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
