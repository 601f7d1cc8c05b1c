"""How a prompt fares where it runs: counts of the last day, beside what its file says of known photos.

The idea: a prompt file holds the scores that 80, 90, 95, 98 and 99% of known photos reach (see
`none_of_these`). If the pictures of today are like the photos that the prompt was tuned on, the same shares
of them reach these scores. Where fewer do, the largest shortfall is the drift:

    drift = max(0, max over the five shares s of (s - share of the day's answers that reach the score of s))

It is 0 for pictures like the known photos, and 0.99 where none reaches any of the scores. It is one side of
the two-sample statistic of Kolmogorov and Smirnov, taken at five points.

Counts are kept by the hour, for 24 hours by the monotonic clock, so a clock that is set moves nothing, and
what is kept does not grow. An answer costs a lock and a few additions.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qprompt_edge.watching.answers import rfc3339
from qprompt_runtime.cose_sign1 import claims_in
from qprompt_runtime.prompt_file import ACCEPT_SHARES, PromptFile

DAY_HOURS = 24
_HOUR = 3600.0


@dataclass(frozen=True)
class Version:
    """Which prompt answers.

    Attributes:
        sha256: Of its file, hexadecimal.
        task: The task that its signer names; None if it is not signed.
        sequence: Its number among that task's; None if it is not signed.
        backbone: The backbone's name.
        fingerprint: The backbone's fingerprint, hexadecimal.
        accept_scores: The score that each of `ACCEPT_SHARES` of the known photos reaches; empty if the file
            does not say.
    """

    sha256: str
    task: str | None
    sequence: int | None
    backbone: str
    fingerprint: str
    accept_scores: tuple[float, ...]

    @classmethod
    def of(cls, data: bytes, prompt: PromptFile) -> Version:
        """The version in a file's bytes, and the prompt that was read from them."""
        claims = claims_in(data)
        return cls(
            hashlib.sha256(data).hexdigest(),
            None if claims is None else claims.task,
            None if claims is None else claims.sequence,
            prompt.backbone_name,
            prompt.fingerprint.hex(),
            prompt.calibration.accept_scores,
        )


@dataclass(frozen=True)
class PromptHealth:
    """How one prompt fares; shares are 0 to 1, and None where there is nothing to tell them by.

    Attributes:
        prompt: Its name.
        version: Which it is; None if that is not known.
        total: Answers since the start.
        total_none: Those that were "none of these"; None while no answer has told.
        last: When the last one was given, in seconds since 1970 by the device's clock.
        age: Seconds since then, by the monotonic clock.
        hours: How long this version has been counted, at most `DAY_HOURS`; the figures below cover this time.
        answers: How many answers it gave.
        none_of_these: Share of these that were "none of these".
        confidence: Mean probability of the likeliest class.
        reached: Share of these that reach the score of each of `ACCEPT_SHARES`; empty if unknown.
    """

    prompt: str
    version: Version | None
    total: int
    total_none: int | None
    last: float | None
    age: float | None
    hours: float
    answers: int
    none_of_these: float | None
    confidence: float | None
    reached: tuple[float, ...]

    @property
    def drift(self) -> float | None:
        """How far the day's scores fall short of those of known photos, 0 to 0.99."""
        if not self.reached:
            return None
        return max(0.0, *(share - found for share, found in zip(ACCEPT_SHARES, self.reached, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """As it is told over MQTT."""
        version = self.version
        return {
            "drift": _rounded(self.drift),
            "none_of_these": _rounded(self.none_of_these),
            "confidence": _rounded(self.confidence),
            "reached": {
                f"{share:g}": _rounded(it) for share, it in zip(ACCEPT_SHARES, self.reached, strict=False)
            },
            "answers": self.answers,
            "hours": round(self.hours, 2),
            "last_answer": None if self.last is None else rfc3339(self.last),
            "sha256": None if version is None else version.sha256,
            "task": None if version is None else version.task,
            "sequence": None if version is None else version.sequence,
            "backbone": None if version is None else version.backbone,
        }


@dataclass(frozen=True)
class Report:
    """How everything fares.

    Attributes:
        source: Where frames come from.
        running: Whether frames are answered; False after the end.
        here: Whether the source is there; None if there is no one source.
        frames: Frames that were answered since the start; None where they are not counted.
        unread: Frames that could not be read.
        prompts: Each prompt.
    """

    source: str
    running: bool
    here: bool | None
    frames: int | None
    unread: int | None
    prompts: tuple[PromptHealth, ...]


@dataclass
class _Hour:
    """Counts of an hour; `missed` counts the scored answers by how many of the five scores they miss."""

    hour: int
    answers: int = 0
    told: int = 0
    none: int = 0
    confidence: float = 0.0
    missed: list[int] = field(default_factory=lambda: [0] * (len(ACCEPT_SHARES) + 1))


@dataclass
class _Counts:
    """What is kept of a prompt."""

    version: Version | None
    since: float
    total: int = 0
    total_none: int | None = None
    last: float | None = None
    last_tick: float | None = None
    hours: deque[_Hour] = field(default_factory=lambda: deque(maxlen=DAY_HOURS))


class Health:
    """Counts answers; for several threads.

    Args:
        clock: Seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._prompts: dict[str, _Counts] = {}

    def take_up(self, prompt: str, version: Version | None) -> None:
        """A version of a prompt answers from now on; what was counted of another is not the new one's."""
        with self._lock:
            counts = self._prompts.get(prompt)
            if counts is None:
                self._prompts[prompt] = _Counts(version, self._clock())
            elif counts.version != version:
                counts.version, counts.since = version, self._clock()
                counts.hours.clear()

    def forget(self, prompt: str) -> None:
        """A prompt is gone."""
        with self._lock:
            self._prompts.pop(prompt, None)

    def answered(
        self, prompt: str, moment: float, confidence: float, none_of_these: bool | None, score: float | None
    ) -> None:
        """Count an answer of a prompt that was taken up before; any other is passed over.

        Args:
            prompt: Its name.
            moment: When, in seconds since 1970.
            confidence: Probability of the likeliest class.
            none_of_these: Whether it was; None if the prompt does not tell.
            score: How much the picture looks like one of the classes; None if that is not known.
        """
        with self._lock:
            counts = self._prompts.get(prompt)
            if counts is None:
                return
            now = self._clock()
            hour = _this_hour(counts, now)
            counts.total += 1
            counts.last, counts.last_tick = moment, now
            hour.answers += 1
            hour.confidence += confidence
            if none_of_these is not None:
                hour.told += 1
                hour.none += none_of_these
                counts.total_none = (counts.total_none or 0) + none_of_these
            if score is not None and counts.version is not None and counts.version.accept_scores:
                hour.missed[sum(score < least for least in counts.version.accept_scores)] += 1

    def prompts(self) -> tuple[PromptHealth, ...]:
        """How each prompt fares now."""
        with self._lock:
            now = self._clock()
            return tuple(_told(name, counts, now) for name, counts in self._prompts.items())


def _this_hour(counts: _Counts, now: float) -> _Hour:
    hour = int(now // _HOUR)
    if not counts.hours or counts.hours[-1].hour != hour:
        counts.hours.append(_Hour(hour))
    return counts.hours[-1]


def _told(name: str, counts: _Counts, now: float) -> PromptHealth:
    first = int(now // _HOUR) - DAY_HOURS + 1
    hours = [hour for hour in counts.hours if hour.hour >= first]
    answers, told = sum(hour.answers for hour in hours), sum(hour.told for hour in hours)
    missed = [sum(column) for column in zip(*(hour.missed for hour in hours), strict=True)]
    reached = [sum(missed[: place + 1]) for place in range(len(ACCEPT_SHARES))] if any(missed) else []
    return PromptHealth(
        name,
        counts.version,
        counts.total,
        counts.total_none,
        counts.last,
        None if counts.last_tick is None else now - counts.last_tick,
        (now - max(counts.since, first * _HOUR)) / _HOUR,
        answers,
        sum(hour.none for hour in hours) / told if told else None,
        sum(hour.confidence for hour in hours) / answers if answers else None,
        tuple(count / sum(missed) for count in reached),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
