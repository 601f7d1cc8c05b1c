"""Answers of `watch` as lines on stdout, for as long as stdout takes them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from qprompt_edge.cli.output import emit_defined, say, show
from qprompt_edge.cli.streams import try_stdout_again
from qprompt_edge.watching.answers import NONE_OF_THESE, WHOLE, Answer, Sink, rfc3339
from qprompt_edge.watching.frames import Frame
from qprompt_runtime.errors import ImageError, OutputError
from qprompt_runtime.text import counted, percent, printable

_RETRY_SECONDS = 10.0


class AnswerLines(Sink):
    """Prints answers.

    If stdout takes none (a full disk), they are dropped until it does again; both are said once.

    Args:
        as_json: A JSON object for each answer, instead of text.
        changes: Only answers that change a state.
        many: Whether there are several prompts, so that text names the prompt.
    """

    def __init__(self, as_json: bool, changes: bool, many: bool) -> None:
        self._as_json, self._changes, self._many = as_json, changes, many
        self._lost = False
        self._again = 0.0
        self._said = ""
        self._unread = self._dropped = 0

    def answer(self, answer: Answer, frame: Frame) -> None:
        """Print an answer."""
        if self._changes and not answer.changed:
            return
        self._said = ""
        self._print(answer.as_dict() if self._as_json else self._line(answer))

    def skipped(self, frame: Frame, reason: str) -> None:
        """Say why a frame has no answer; once for all frames in a row with the same reason."""
        self._unread += 1
        if reason != self._said:
            say(f"skipped {reason}")
        self._said = reason
        if self._as_json:
            self._print({"time": rfc3339(frame.time), "source": frame.source, "error": printable(reason)})

    def present(self, here: bool, reason: str) -> None:
        """Say that the source is lost, or back."""
        say("the source is back" if here else f"lost {reason}; trying again")

    def withdrawn(self, prompts: Mapping[str, str]) -> None:
        """Say in JSON which prompts give no answers; for people the loop has said it."""
        for name, reason in prompts.items():
            if self._as_json:
                self._print({"time": rfc3339(time.time()), "prompt": name, "error": reason})

    def check_all(self) -> None:
        """After the last frame: was every frame answered, and every answer printed?

        Raises:
            OutputError: Answers were dropped.
            ImageError: Frames could not be read.
        """
        if self._dropped:
            raise OutputError(f"{counted(self._dropped, 'answer')} could not be written to stdout")
        if self._unread:
            raise ImageError(f"{counted(self._unread, 'frame')} could not be read")

    def _line(self, answer: Answer) -> str:
        """`12:30:05  incoming/1.jpg  stone 98.7%`."""
        moment = time.strftime("%H:%M:%S", time.localtime(answer.time))
        named = [answer.region] if answer.region != WHOLE else []
        named += [answer.prompt] if self._many else []
        shown = f"{answer.label} {percent(answer.probability)}"
        if answer.none_of_these:
            shown = f"{NONE_OF_THESE} ({shown})"
        return "  ".join(map(printable, (moment, answer.source, *named, shown)))

    def _print(self, value: Any) -> None:
        if self._lost:
            if time.monotonic() < self._again:
                self._dropped += 1
                return
            try_stdout_again()
        try:
            if self._as_json:
                emit_defined(value)
            else:
                show(value)
        except OutputError as error:
            if not self._lost:
                say(f"{error}; answers are dropped until it takes them again")
            self._lost, self._again = True, time.monotonic() + _RETRY_SECONDS
            self._dropped += 1
            return
        if self._lost:
            self._lost = False
            say("stdout takes answers again")
