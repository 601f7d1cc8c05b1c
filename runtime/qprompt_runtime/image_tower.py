"""The image tower of a backbone: opened when it is first needed, for single photos or for many.

A single photo is done soonest if all threads work on it. Many are done soonest if several are encoded at the
same time, on one thread each: then no core waits for another within an operator, and whoever decodes a photo
encodes it as well. A photo's features are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import onnxruntime

from qprompt_runtime.arrays import Array
from qprompt_runtime.manifest import Graph
from qprompt_runtime.providers import open_session

AT_ONCE = 4
"""Most photos that are encoded at the same time: each needs memory for its pixels and activations."""
_IMAGES_PER_RUN = 8


class ImageTower:
    """May be used from several threads.

    Args:
        folder: The bundle's folder.
        graph: Which of its graphs runs.
        width: Numbers of a feature.
        provider: As `providers.choose_provider` returns it.
        threads: Threads; 0 takes one for each core.
    """

    def __init__(self, folder: Path, graph: Graph, width: int, provider: str, threads: int) -> None:
        self._path, self._graph = folder / graph.file, graph
        self._shape = (width,)
        self._provider, self._threads = provider, threads
        self._lock = Lock()
        self._at_once = self._opened_for = 1
        self.session: onnxruntime.InferenceSession | None = None

    @contextmanager
    def side_by_side(self, at_once: int) -> Iterator[None]:
        """If the tower opens within, it leaves the cores to the threads that run it, so many at a time."""
        before, self._at_once = self._at_once, at_once
        try:
            yield
        finally:
            self._at_once = before

    def expect_single(self) -> None:
        """Single photos follow: if it is open for many, the next one opens it anew."""
        with self._lock:
            self._at_once = 1
            if self._opened_for > 1:
                self.session = None

    def open(self) -> onnxruntime.InferenceSession:
        """Open it now, if it is not open."""
        with self._lock:
            if self.session is None:
                self._opened_for = self._at_once
                self.session = open_session(
                    self._path,
                    self._provider,
                    self._threads,
                    prepack=True,
                    spin=False,  # other threads decode and encode other photos meanwhile
                    callers=self._at_once,
                )
            return self.session

    def close(self) -> None:
        """Forget the session; the next photo opens it again."""
        with self._lock:
            self.session = None

    def encode(self, pixels: Array) -> Array:
        """Features of photos, as `Backbone.encode_images` describes it."""
        return run_photos(self.open(), self._graph, "features", pixels, self._shape)


def run_photos(
    session: onnxruntime.InferenceSession, graph: Graph, output: str, pixels: Array, shape: tuple[int, ...]
) -> Array:
    """Run a graph that reads nothing but `pixels`, a few photos at a time.

    Args:
        session: The graph, opened.
        graph: Its facts.
        output: The output that is wanted.
        pixels: float32 [B,3,H,W].
        shape: Of the output for one photo.

    Returns:
        float32 [B,*shape].
    """
    step = graph.max_batch or _IMAGES_PER_RUN
    runs = [
        session.run([output], {"pixels": pixels[start : start + step]})[0]
        for start in range(0, len(pixels), step)
    ]
    return np.concatenate(runs) if runs else np.zeros((0, *shape), np.float32)
