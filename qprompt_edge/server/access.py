"""Who may come in: a token that is shown once and kept as a hash, and sessions that a browser gets for it.

The idea: a token is 128 random bits, so a plain hash of it is as good as a slow one, and nothing that is kept
can be used to come in. A browser hands the token in once and gets a cookie that scripts cannot read; programs
send it as `Authorization: Bearer`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import time
from pathlib import Path
from threading import Lock

from qprompt_edge.server.limits import LOGIN_SECONDS, LOGIN_TRIES, SESSION_DAYS, SESSIONS
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.text import printable

_TOKEN_BYTES = 16
_SHORTEST = 16
_DAY = 86_400
_ADDRESSES = 1_000


class Access:
    """The token's hash and the sessions; both outlast the server.

    Args:
        file: Where they are kept.
        needed: Whether a token is demanded at all.
    """

    def __init__(self, file: Path, needed: bool) -> None:
        self._file, self.needed = file, needed
        self._lock = Lock()
        self._token = ""
        self._sessions: dict[str, float] = {}
        self._tries: dict[str, tuple[float, int]] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            kept = json.loads(file.read_bytes())
            self._token = str(kept["token"])
            self._sessions = {str(name): float(since) for name, since in kept["sessions"].items()}

    @property
    def has_token(self) -> bool:
        """Whether a token was made before."""
        return bool(self._token)

    def make_token(self) -> str:
        """A new token; the old one, and all sessions, are worth nothing from now on."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._set(token)
        return token

    def take_token(self, file: Path) -> None:
        """Demand the token that a file holds; sessions stay if it is the one that was demanded before.

        Raises:
            OutputError: The file cannot be read, or its token is short.
        """
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"cannot read the token in {printable(file)}: {reason}") from error
        if len(token) < _SHORTEST or not token.isprintable() or " " in token:
            raise OutputError(
                f"the token in {printable(file)} has {len(token)} characters; expected at least {_SHORTEST}, with no spaces: "
                "openssl rand -hex 16"
            )
        if not hmac.compare_digest(_hash(token), self._token):
            self._set(token)

    def login(self, token: str, address: str) -> str:
        """Exchange the token for a session; its name, for the cookie.

        Raises:
            Refusal: The token is wrong, or there were too many wrong ones from this address.
        """
        now = time.monotonic()
        with self._lock:
            since, wrong = self._tries.get(address, (now, 0))
            if now - since > LOGIN_SECONDS:
                since, wrong = now, 0
            if wrong >= LOGIN_TRIES:
                wait = int(LOGIN_SECONDS - (now - since)) + 1
                raise Refusal(429, f"too many wrong tokens; try again in {wait} seconds", retry=wait)
            if not self.is_token(token):
                if len(self._tries) >= _ADDRESSES:
                    self._tries.clear()
                self._tries[address] = since, wrong + 1
                raise Refusal(401, "the token is wrong; serve printed it when it was first started")
            session = secrets.token_urlsafe(_TOKEN_BYTES)
            self._sessions[_hash(session)] = time.time()
            newest = sorted(self._sessions.items(), key=lambda item: -item[1])[:SESSIONS]
            self._sessions = dict(newest)
            self._save()
        return session

    def is_token(self, token: str) -> bool:
        """Whether this is the token."""
        return bool(self._token) and hmac.compare_digest(_hash(token), self._token)

    def is_session(self, session: str) -> bool:
        """Whether this is a session's name, and not too old."""
        since = self._sessions.get(_hash(session))
        return since is not None and time.time() - since < SESSION_DAYS * _DAY

    def _set(self, token: str) -> None:
        self._token, self._sessions = _hash(token), {}
        self._save()

    def _save(self) -> None:
        kept = json.dumps({"token": self._token, "sessions": self._sessions})
        write_atomic(self._file, kept.encode(), 0o600)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
