"""A vendor, a device and a running `watch`, for `benchmarks.deploying`: how long a prompt is under way."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

from PIL import Image

from benchmarks.bundles import DEFAULT, EMBEDDED
from benchmarks.tables import median
from benchmarks.watch_steps import made_prompt
from qprompt_runtime.backbone import Backbone

STEPS = ("sign", "publish", "install", "answer")
COLUMNS = (*STEPS, "total", "processor")
PROGRAM = (sys.executable, "-m", "qprompt_edge")
_FRAME_SECONDS, _PATIENCE = 0.1, 120.0

Publish = Callable[[Path], None]


class Watch:
    """A running `watch`, fed with frames; it knows when a class was first answered.

    Args:
        words: Its options.
        environment: Its environment.
    """

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        command = [*PROGRAM, "watch", "-", *words, "--json"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self.seen: dict[str, float] = {}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        threading.Thread(target=self._feed, args=(self._process.stdin,), daemon=True).start()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def _feed(self, pipe: IO[bytes]) -> None:
        picture = io.BytesIO()
        Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(picture, "JPEG")
        with suppress(OSError, ValueError):
            while True:
                pipe.write(picture.getvalue())
                pipe.flush()
                time.sleep(_FRAME_SECONDS)

    def _read(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            self.seen.setdefault(json.loads(line)["label"].rpartition(" ")[2], time.monotonic())

    def wait(self, mark: str) -> float:
        """When a class whose name ends so was first answered."""
        until = time.monotonic() + _PATIENCE
        while mark not in self.seen:
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError(f"watch did not answer with the prompt {mark}")
            time.sleep(0.005)
        return self.seen[mark]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Bench:
    """A vendor with a key, a device with a policy, and the servers between them.

    Args:
        folder: For all of it.
        stack: Ends what was started.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        places = {"XDG_STATE_HOME": folder / "state", "QPE_CACHE": folder / "cache"}
        self.environment = {**os.environ, **{name: str(path) for name, path in places.items()}}
        self.sent, self.to = folder / "signed.qpt", folder / "device"
        self.policy = ["--trust", str(folder / "vendor.key.pub"), "--task", "belt"]
        self._backbone, self._sequence = Backbone.load(EMBEDDED[DEFAULT]), 0
        self.run("keygen", "--out", folder / "vendor.key")

    def run(self, *words: object) -> None:
        """A command of ours; an error if it fails."""
        self.process(*PROGRAM, *words)

    def process(self, *words: object) -> None:
        """Any command; an error if it fails."""
        done = subprocess.run(
            list(map(str, words)), env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr[-2000:]}")

    def serve(self, *command: object) -> None:
        """Start a server, and give it a moment."""
        server = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
        self.stack.callback(server.wait)
        self.stack.callback(server.terminate)  # a master of nginx that is killed leaves its workers
        time.sleep(0.5)

    def sign(self) -> str:
        """A new prompt, signed by the command; its mark."""
        self._sequence += 1
        labels = [f"{name} {self._sequence}" for name in ("stone", "coal", "belt")]
        plain = self.folder / "plain.qpt"
        plain.write_bytes(made_prompt(self._backbone, labels, self._sequence).to_bytes())
        key = ("--key", self.folder / "vendor.key", "--task", "belt", "--sequence", self._sequence)
        self.began = time.monotonic()
        self.sent.unlink(missing_ok=True)
        self.run("sign", plain, *key, "--expires", "2090-12-31", "--out", self.sent)
        return str(self._sequence)

    def measure(self, publish: Publish, install: Callable[[], None], turns: int) -> dict[str, float]:
        """Seconds of each step, medians over the turns."""
        shutil.rmtree(self.to, ignore_errors=True)
        self.sign()
        publish(self.sent)
        install()
        watch = Watch(["--prompt", str(self.to / "prompt.qpt"), *self.policy], self.environment)
        try:
            watch.wait(str(self._sequence))
            found: dict[str, list[float]] = {column: [] for column in COLUMNS}
            for _ in range(turns):
                before = _processor_seconds()
                mark = self.sign()
                moments = [self.began, time.monotonic()]
                publish(self.sent)
                moments.append(time.monotonic())
                install()
                moments.append(time.monotonic())
                moments.append(watch.wait(mark))
                for step, begin, end in zip(STEPS, moments[:-1], moments[1:], strict=True):
                    found[step].append(max(0.0, end - begin))  # an answer may come before `install` has ended
                found["total"].append(moments[-1] - moments[0])
                found["processor"].append(_processor_seconds() - before)
        finally:
            watch.close()
        return {step: median(seconds) for step, seconds in found.items()}


def _processor_seconds() -> float:
    """What commands took that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
