"""The loop: a frame, its regions, one image pass, and an answer of every prompt for every region."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from qprompt_edge.watching.agreement import Agreement
from qprompt_edge.watching.answers import NONE_OF_THESE, Answer, Sink
from qprompt_edge.watching.frames import TICK, Frame, Frames
from qprompt_edge.watching.heads import Verdict
from qprompt_edge.watching.prompts import Prompts
from qprompt_edge.watching.regions import WHOLE_FRAME, Region
from qprompt_edge.watching.still import Cells, difference, grey_cells
from qprompt_runtime.arrays import Array
from qprompt_runtime.errors import ImageError
from qprompt_runtime.images import ImageTransform, to_pixels

Note = Callable[[str], None]


@dataclass(frozen=True)
class Rules:
    """When a frame is answered, and when its answer changes a state.

    Attributes:
        regions: What of a frame is looked at.
        still: A region whose grey levels (0 to 255) have changed less than this everywhere since it was
            answered is not encoded again; 0 answers every frame.
        agree: (n, m): a state changes when n of the last m frames agree.
        min_confidence: An answer of less probability changes no state.
    """

    regions: tuple[Region, ...] = (WHOLE_FRAME,)
    still: float = 0.0
    agree: tuple[int, int] = (1, 1)
    min_confidence: float = 0.0


@dataclass
class _Place:
    """What is known of a region: its last answers, how it looked then, and its state under each prompt."""

    region: Region
    states: dict[str, Agreement]
    verdicts: list[Verdict] = field(default_factory=list)
    features: Array | None = None
    cells: Cells | None = None


def paced(frames: Frames, fps: float | None, live: bool) -> Frames:
    """At most so many frames a second.

    Args:
        frames: Where they come from; it is closed with this.
        fps: The limit; None for none.
        live: Whether a frame that comes too early is dropped; else it waits.
    """
    due = -float("inf")
    with closing(frames):
        for frame in frames:
            if frame is None or fps is None:
                yield frame
                continue
            if live and time.monotonic() < due:
                yield None
                continue
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, TICK))
                yield None
            now = time.monotonic()
            due = (due if now - due < 1 / fps else now) + 1 / fps  # late by less than a turn: keep the beat
            yield frame


class Watch:
    """Answers frames; what it remembers between them is small and does not grow.

    Args:
        prompts: The prompts and their backbone.
        rules: When what is answered.
        sinks: Take the answers.
        source: The source's name.
        note: Prints a line for people.
        check: Called with a frame before it is decoded; an `ImageError` that it raises skips the frame.
    """

    def __init__(
        self,
        prompts: Prompts,
        rules: Rules,
        sinks: Sequence[Sink],
        source: str,
        note: Note,
        check: Callable[[Frame], None] = lambda _frame: None,
    ) -> None:
        self._prompts, self._rules, self._sinks, self._source = prompts, rules, sinks, source
        self._note, self._check = note, check
        self._transform = prompts.backbone.manifest.image_transform
        self._whole = all(region == WHOLE_FRAME for region in rules.regions)
        self._places = [
            _Place(region, {name: Agreement(*rules.agree) for name in prompts.labels})
            for region in rules.regions
        ]
        self._withdrawn: dict[str, str] = {}
        self._pixels = np.empty((len(rules.regions), 3, *self._transform.size), np.float32)
        self._announce()

    def _announce(self) -> None:
        regions = tuple(region.name for region in self._rules.regions)
        for sink in self._sinks:
            sink.ready(self._prompts.labels, regions, self._source)

    def run(self, frames: Frames, tick: Callable[[], bool]) -> None:
        """Answer frames until there are no more.

        Args:
            frames: They are closed at the end.
            tick: Called between frames, at least every second; False ends the loop.
        """
        with closing(frames):
            for frame in frames:
                if not tick():
                    return
                self.take_up()
                if frame is not None:
                    self.answer(frame)

    def take_up(self) -> None:
        """Take up the prompts whose files were exchanged: their votes begin anew, their states stay."""
        fresh = self._prompts.refresh(self._note)
        if self._prompts.withdrawn != self._withdrawn:
            fresh = [*fresh, *(self._withdrawn.keys() - self._prompts.withdrawn.keys() - set(fresh))]
            self._withdrawn = dict(self._prompts.withdrawn)
            for sink in self._sinks:
                sink.withdrawn(self._withdrawn)
        if not fresh:
            return
        for place in self._places:
            place.cells = None
            for name in fresh:
                place.states[name].forget()
        self._announce()

    def answer(self, frame: Frame) -> None:
        """Answer one frame; one that cannot be read is reported, and nothing else happens."""
        if self._withdrawn.keys() == self._prompts.labels.keys():
            return
        try:
            self._check(frame)
            picture = frame.decode(self._transform if self._whole else None)
            moved = self._moved(picture)
            self._look(picture, moved)
        except ImageError as error:
            for sink in self._sinks:
                sink.skipped(frame, str(error))
            return
        for place in self._places:
            self._tell(place, frame, again=place not in moved)

    def _moved(self, picture: Image.Image) -> list[_Place]:
        """The regions that look otherwise than when they were answered."""
        if not self._rules.still:
            return self._places
        moved = []
        for place in self._places:
            cells = grey_cells(picture, place.region.box(*picture.size))
            if place.cells is None or difference(cells, place.cells) >= self._rules.still:
                place.cells = cells
                moved.append(place)
        return moved

    def _look(self, picture: Image.Image, places: Sequence[_Place]) -> None:
        """Encode some regions in one pass, and keep what all prompts say about them."""
        if not places:
            return
        pixels = self._pixels[: len(places)]
        for place, row in zip(places, pixels, strict=True):
            row[...] = _region_pixels(picture, place.region, self._transform)
        features = self._prompts.encode(pixels)
        judged = self._prompts.heads.judge(features)
        for place, verdicts, row in zip(places, judged, features, strict=True):
            place.verdicts, place.features = verdicts, row

    def _tell(self, place: _Place, frame: Frame, again: bool) -> None:
        """Let a region's verdicts vote, and tell the sinks; of the same verdicts `again`, a change only."""
        for (name, agreement), verdict in zip(place.states.items(), place.verdicts, strict=True):
            if name in self._withdrawn:
                continue
            label, probability = verdict.predictions[0]
            sure = probability >= self._rules.min_confidence
            vote = NONE_OF_THESE if verdict.none_of_these else label if sure else None
            changed = agreement.vote(vote)
            if again and not changed:
                continue
            answer = Answer(
                frame.time,
                frame.source,
                place.region.name,
                name,
                label,
                probability,
                verdict.none_of_these,
                agreement.state,
                changed,
                verdict.predictions,
                place.features,
                verdict.score,
            )
            for sink in self._sinks:
                sink.answer(answer, frame)


def _region_pixels(picture: Image.Image, region: Region, transform: ImageTransform) -> np.ndarray:
    """A region as the image tower reads it, float32 [3,H,W]."""
    box = region.box(*picture.size)
    return to_pixels(picture if box == (0, 0, *picture.size) else picture.crop(box), transform)
