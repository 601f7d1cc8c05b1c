"""A webhook: each change of state is posted to an address as JSON."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from qprompt_edge.watching.addresses import without_password
from qprompt_edge.watching.answers import Answer
from qprompt_edge.watching.deliveries import Deliveries, DeliveryError
from qprompt_runtime.text import printable

_TIMEOUT = 10.0
_AGAIN = (408, 425, 429)  # RFC 9110: time-out, too early, too many requests


def webhook(address: str, note: Callable[[str], None]) -> Deliveries:
    """Post changes to an http or https address.

    Args:
        address: The address.
        note: Prints a line.

    Raises:
        ValueError: It is no such address.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{without_password(address)!r}: expected an address such as http://127.0.0.1:1880/belt"
        )

    def deliver(answer: Answer) -> None:
        body = json.dumps(answer.as_dict()).encode()
        request = Request(address, body, {"Content-Type": "application/json", "User-Agent": "qprompt-edge"})
        try:
            with urlopen(request, timeout=_TIMEOUT):
                pass
        except HTTPError as error:
            error.close()
            again = error.code >= 500 or error.code in _AGAIN
            raise DeliveryError(f"answered {error.code} {printable(error.reason)}", again) from error
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            reason = getattr(cause, "strerror", None) or str(cause)
            raise DeliveryError(printable(reason), again=True) from error

    return Deliveries(f"webhook {without_password(address)}", deliver, note)
