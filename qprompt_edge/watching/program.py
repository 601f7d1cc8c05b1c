"""A program that is started at each change of state; its environment says how, and no shell reads it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable

from qprompt_edge.watching.answers import Answer, rfc3339
from qprompt_edge.watching.deliveries import Deliveries, DeliveryError
from qprompt_runtime.text import printable

_TIMEOUT = 60.0
_STDERR = 2


def program(command: str, note: Callable[[str], None]) -> Deliveries:
    """Start a program for each change, one at a time; what it prints goes to stderr.

    Args:
        command: The program and its arguments, divided as a shell divides them; no shell reads it.
        note: Prints a line.

    Raises:
        ValueError: It is empty, or a quotation does not end.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{command!r}: {error}") from error
    if not words:
        raise ValueError("expected a program to start, such as ./on-change.sh")

    def deliver(answer: Answer) -> None:
        try:
            subprocess.run(
                words,
                check=True,
                env=os.environ | variables(answer),
                stdin=subprocess.DEVNULL,
                stdout=_STDERR,
                timeout=_TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise DeliveryError(f"took more than {_TIMEOUT:.0f} s and was ended", again=False) from error
        except subprocess.CalledProcessError as error:
            raise DeliveryError(f"ended with exit code {error.returncode}", again=False) from error
        except (OSError, ValueError) as error:  # a zero byte in a label
            reason = getattr(error, "strerror", None) or error
            raise DeliveryError(f"cannot be started: {reason}", again=False) from error

    return Deliveries(printable(words[0]), deliver, note)


def variables(answer: Answer) -> dict[str, str]:
    """What the program finds in its environment."""
    none = answer.none_of_these
    return {
        "QPE_TIME": rfc3339(answer.time),
        "QPE_SOURCE": answer.source,
        "QPE_REGION": answer.region,
        "QPE_PROMPT": answer.prompt,
        "QPE_STATE": answer.state or "",
        "QPE_LABEL": answer.label,
        "QPE_PROBABILITY": f"{answer.probability:.6f}",
        "QPE_NONE_OF_THESE": "" if none is None else str(none).lower(),
    }
