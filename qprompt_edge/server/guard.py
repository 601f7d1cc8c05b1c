"""The gate before every request: where it comes from, who sends it, and the headers of every answer.

- `Host` has to be an address, this machine's name, or one that was allowed: a name of somebody else's that
  leads here (DNS rebinding) is refused.
- A browser says in `Origin` and `Sec-Fetch-Site` whose page asks: for what changes something, only our own
  may.
- Without a token nothing but the page's files, the login and `/healthz` is answered, where one is demanded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import sys
import traceback
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qprompt_edge.server.access import Access
from qprompt_edge.server.limits import SEND_SECONDS
from qprompt_edge.server.refusal import Refusal
from qprompt_edge.watching.addresses import is_loopback

_SAFE = ("GET", "HEAD", "OPTIONS")
_OPEN = ("/", "/healthz", "/api/login", "/favicon.ico")
_OPEN_BELOW = "/static/"
_FROM_US = ("same-origin", "none")
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
_OPENER = (b"cross-origin-opener-policy", b"same-origin")
"""Browsers heed it over TLS and from the loopback address only, and warn of it elsewhere."""


class Guard:
    """Lets requests through to the application, or refuses them.

    Args:
        app: The application.
        access: Tokens and sessions.
        names: Host names that are allowed beside addresses and `localhost`, in lower case.
        cookie: The session cookie's name.
    """

    def __init__(self, app: ASGIApp, access: Access, names: Iterable[str], cookie: str) -> None:
        self._app, self._access, self._names, self._cookie = app, access, frozenset(names), cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = _name_in(Headers(scope=scope).get("host", ""))
        trusted = scope["scheme"] == "https" or is_loopback(host)  # as browsers see it

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = _with_defaults(message.get("headers", ()))
                message = {**message, "headers": [*headers, _OPENER] if trusted else headers}
            await asyncio.wait_for(send(message), SEND_SECONDS)

        try:
            self._check(scope)
            await self._app(scope, receive, send_guarded)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, send_guarded)
        except (asyncio.TimeoutError, TimeoutError):  # a reader that does not read
            return
        except Exception:  # a defect of ours, of which the application has told the client
            traceback.print_exc(file=sys.stderr)

    def _check(self, scope: Scope) -> None:
        """Refuse a request that may not come in.

        Raises:
            Refusal: It says why.
        """
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Refusal(
                403, "this host name is not known here; start serve with --allow-host NAME to use it"
            )
        changes = scope["method"] not in _SAFE
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if changes and origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Refusal(403, "a page of another origin may not change anything here")
        if site is not None and site not in _FROM_US and (changes or path.startswith("/api/")):
            raise Refusal(403, "a page of another site may not ask here")
        if self._access.needed and path not in _OPEN and not path.startswith(_OPEN_BELOW):
            self._check_token(headers)

    def _check_token(self, headers: Headers) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._access.is_token(token.strip()):
            return
        try:
            cookie: Any = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            cookie = None
        if cookie is None or not self._access.is_session(cookie.value):
            raise Refusal(
                401,
                "a token is needed; open the link that serve printed, or send Authorization: Bearer TOKEN",
            )

    def _is_ours(self, host: str) -> bool:
        """Whether a `Host` header names this machine; a port behind it does not matter."""
        name = _name_in(host)
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name_in(host: str) -> str:
    """The name or address in a `Host` header, without its port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.strip("[]").lower().rstrip(".")


def own_names() -> set[str]:
    """Names that this machine has by itself."""
    name = socket.gethostname().lower().partition(".")[0]
    return {"localhost", name, f"{name}.local", f"{name}.lan", f"{name}.home"}


def refused(refusal: Refusal) -> JSONResponse:
    """The answer to a request that is refused."""
    headers = {} if refusal.retry is None else {"retry-after": str(refusal.retry)}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"error": str(refusal)}, refusal.status, headers)


def _with_defaults(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, and those that every answer has unless it has its own."""
    given = list(headers)
    have = {name.lower() for name, _ in given}
    return given + [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in have]
