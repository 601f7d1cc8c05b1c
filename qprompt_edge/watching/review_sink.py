"""From the loop to the review queue: a thread writes the frames, so that the loop waits for no card."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence

from PIL import Image

from qprompt_edge.watching.answers import WHOLE, Answer, Sink
from qprompt_edge.watching.frames import Frame
from qprompt_edge.watching.regions import Region
from qprompt_edge.watching.review_queue import LONGEST, ReviewQueue, Seen, is_doubtful
from qprompt_runtime.errors import ImageError, OutputError
from qprompt_runtime.images import ImageTransform, read_image

_WAITING = 4  # frames, each of which may take megabytes; what comes while they wait is passed over
_LAST_SECONDS = 2.0
_KEPT_AS = ImageTransform((LONGEST, LONGEST), "longest")


class ReviewSink(Sink):
    """Offers the frames that a prompt was unsure of.

    Args:
        kept: The queue.
        regions: The loop's regions.
        space: What features are comparable with at present, see `Seen`.
        live: Whether frames come from a camera or stream.
        note: Prints a line; called from another thread.
    """

    def __init__(
        self,
        kept: ReviewQueue,
        regions: Sequence[Region],
        space: Callable[[], str],
        live: bool,
        note: Callable[[str], None],
    ) -> None:
        self._kept, self._space, self._live, self._note = kept, space, live, note
        self._regions = {region.name: region for region in regions}
        self._queue: queue.Queue[tuple[Answer, Frame, str]] = queue.Queue(_WAITING)
        self._ending = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="review", daemon=True)
        self._thread.start()

    def answer(self, answer: Answer, frame: Frame) -> None:
        """Hand an unsure frame to the thread; while others wait, a camera's is passed over."""
        if answer.features is not None and is_doubtful(answer.predictions, answer.none_of_these):
            with contextlib.suppress(queue.Full):
                self._queue.put((answer, frame, self._space()), not self._live, _LAST_SECONDS)

    def close(self) -> None:
        """Give what waits a last moment."""
        until = time.monotonic() + _LAST_SECONDS
        while self._queue.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.02)
        self._ending.set()
        self._thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                answer, frame, space = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            self._offer(answer, frame, space)
            self._queue.task_done()

    def _offer(self, answer: Answer, frame: Frame, space: str) -> None:
        assert answer.features is not None
        try:
            self._kept.offer(
                Seen(
                    lambda: self._picture(answer.region, frame),
                    answer.time,
                    answer.source,
                    None if answer.region == WHOLE else answer.region,
                    answer.prompt,
                    answer.predictions,
                    answer.none_of_these,
                    answer.features,
                    space,
                    self._live,
                )
            )
        except (ImageError, OutputError, MemoryError) as error:
            reason = str(error) or "too little memory"
            if reason != self._said:
                self._said = reason
                self._note(f"not kept for review: {reason}")
        else:
            self._said = ""

    def _picture(self, region: str, frame: Frame) -> Image.Image:
        """What was looked at, sharper than the backbone saw it where the source still has it.

        Raises:
            ImageError: It cannot be read.
        """
        try:
            picture = read_image(frame.image, _KEPT_AS)
        except ImageError:  # its file is gone
            picture = frame.decode()
        return picture.crop(self._regions[region].box(*picture.size))
