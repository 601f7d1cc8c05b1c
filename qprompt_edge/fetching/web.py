"""A prompt from an HTTP or HTTPS address: one GET.

It is not conditional. A prompt is hardly larger than the answer that it has not changed, and a server's tag
need not change with it: nginx makes its own of size and second, so that it could hide a new prompt for ever.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import time
import urllib.request
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

from qprompt_edge.fetching.sources import MOST_BYTES, SECONDS, Content, FetchError, check_size
from qprompt_edge.watching.addresses import is_loopback, without_password
from qprompt_runtime.text import printable

_STEP_SECONDS = 10.0
_AT_ONCE = 1 << 16
_DENIED = (401, 403)
_BUSY = (429, 503)
_MOST_REDIRECTIONS = 5
_MOST_WAIT = 86_400


class WebSource:
    """A web server's file.

    Args:
        address: The address.
        header: Content of the header `Authorization`; None sends none.
        context: How TLS trusts the server; needed for https.
    """

    def __init__(self, address: str, header: str | None, context: ssl.SSLContext | None) -> None:
        self.address, self.name = address, without_password(address)
        self._header = header
        self._opener = _opener(context)

    def read(self) -> Content:
        """The file.

        Raises:
            FetchError: The server does not give it.
        """
        request = urllib.request.Request(self.address, headers={"User-Agent": "qprompt-edge"})
        if self._header is not None:
            request.add_unredirected_header("Authorization", self._header)
        try:
            with self._opener.open(request, timeout=_STEP_SECONDS) as response:
                return Content(_body(response, self.name), self.name)
        except HTTPError as error:
            error.close()
            raise self._refused(error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            shown = getattr(reason, "verify_message", None) or getattr(reason, "strerror", None) or reason
            hint = "; check --ca" if isinstance(reason, ssl.SSLCertVerificationError) else ""
            raise FetchError(f"{self.name}: {printable(str(shown))}{hint}") from error

    def _refused(self, error: HTTPError) -> FetchError:
        hint = "; check --login or --token-file" if error.code in _DENIED else ""
        wait = _seconds(error.headers.get("Retry-After", "")) if error.code in _BUSY else 0
        return FetchError(f"{self.name} answered {error.code} {printable(str(error.reason))}{hint}", wait)


def authorization(address: str, login: tuple[str, str] | None, token: str | None) -> str | None:
    """Content of the header `Authorization` (RFC 7617, RFC 6750); None if there is nothing to send.

    Raises:
        ValueError: Both are given, or the connection would show them to everybody on the way.
    """
    if login is None and token is None:
        return None
    if login is not None and token is not None:
        raise ValueError("--login and --token-file are both given; give the one that the server asks for")
    parts = urlsplit(address)
    if parts.scheme.lower() != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError(
            "--login and --token-file need https://; over http:// everybody on the way could read them"
        )
    if login is not None:
        return "Basic " + base64.b64encode(":".join(login).encode()).decode()
    return f"Bearer {token}"


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows a few redirections; never to where the connection is less safe, or with a login elsewhere."""

    max_redirections = _MOST_REDIRECTIONS

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The next request.

        Raises:
            FetchError: It may not be made.
        """
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == ("https", "http"):
            raise FetchError(
                f"{without_password(req.full_url)} redirects to {without_password(newurl)}, which is not encrypted; it was not followed"
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        header = req.unredirected_hdrs.get("Authorization")
        if request is not None and header and (before.scheme, before.netloc) == (after.scheme, after.netloc):
            request.add_unredirected_header("Authorization", header)
        return request


def _opener(context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """Opens http and https addresses and nothing else: not the `file:` and `ftp:` that urllib knows too."""
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirections(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def _body(response: http.client.HTTPResponse, name: str) -> bytes:
    """A response's content, within size and time.

    Raises:
        FetchError: It is too large, too slow, or ends too soon.
    """
    check_size(response.length or 0, name)
    end, parts, size = time.monotonic() + SECONDS, [], 0
    while part := response.read1(min(_AT_ONCE, MOST_BYTES + 1 - size)):
        parts.append(part)
        size += len(part)
        check_size(size, name)
        if time.monotonic() > end:
            raise FetchError(f"{name} is too slow: {size} bytes in {SECONDS:.0f} s")
    if response.length:  # what was announced and did not come
        raise FetchError(f"{name} ended after {size} bytes, {response.length} too soon")
    return b"".join(parts)


def _seconds(after: str) -> int:
    """What `Retry-After` says, 0 to a day; 0 if that is not understood."""
    try:
        seconds = (
            int(after)
            if after.strip().isdecimal()
            else parsedate_to_datetime(after).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return 0
    return int(min(max(0, seconds), _MOST_WAIT))
