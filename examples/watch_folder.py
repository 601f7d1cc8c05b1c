"""A camera-like loop: classify image files as they appear in a folder, one line for each.

Example: python examples/watch_folder.py --prompt belt.qpt --folder incoming
A file is read once its size and time have stayed the same from one look to the next, so one still being
written is left alone. One that cannot be read gets a line that says why and the loop goes on; written anew,
it is tried again.
"""

from __future__ import annotations

import argparse
import contextlib
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from qprompt_runtime import Prediction, PromptClassifier, QPromptError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".heic"}
State = tuple[int, int]  # size and time of a file, which change while it is written


def look(folder: Path) -> dict[Path, State]:
    """The image files that lie in a folder now, in order of their names."""
    states = {}
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            status = path.stat()
            if path.suffix.lower() in SUFFIXES and stat.S_ISREG(status.st_mode):
                states[path] = (status.st_size, status.st_mtime_ns)
    return states


def new_files(folder: Path, interval: float, once: bool = False) -> Iterator[Path]:
    """Yield each file when it has stopped changing; with `once`, what is there, without waiting."""
    done: dict[Path, State] = {}
    before = look(folder)
    while True:
        time.sleep(0 if once else max(interval, 0.01))
        now = look(folder)
        for path, state in now.items():
            if before.get(path) == state and done.get(path) != state:
                done[path] = state
                yield path
        if once:
            return
        before, done = now, {path: done[path] for path in done.keys() & now.keys()}  # forget what was removed


def report(path: Path, predict: Callable[[Path], Prediction]) -> str:
    """One line about one file: time, name, label, probability; or why it was skipped."""
    try:
        best = predict(path)
        answer = f"{best.label}  {best.probability:.3f}"
    except (QPromptError, OSError) as error:
        answer = f"skipped: {error}"
    return f"{time.strftime('%H:%M:%S')}  {path.name}  {answer}"


def main() -> None:
    """Load the prompt, then watch until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Classify image files as they appear in a folder.")
    parser.add_argument("--prompt", type=Path, required=True, help="a prompt file (.qpt)")
    parser.add_argument("--folder", type=Path, required=True, help="the folder to watch")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between two looks")
    parser.add_argument("--once", action="store_true", help="classify what is there, then end")
    options = parser.parse_args()
    try:
        classifier = PromptClassifier.load(options.prompt)
        for path in new_files(options.folder, options.interval, options.once):
            print(report(path, classifier.predict), flush=True)
    except (QPromptError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
