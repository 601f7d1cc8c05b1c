"""How much memory `serve` takes, and how long it is from a click to the verdict.

    python -m benchmarks.serving PHOTOS [--turns 5]

PHOTOS has a sub-folder per class. The server runs as users start it, on a free port, with its own folder of
tasks and its own cache. Memory is that of the server and its child together: RSS counts pages that both map
twice, PSS shares them. Seconds are by the clock from the request to the state `done`, features cached; on a
busy machine the processor's seconds say more. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.05
_SETTLE_SECONDS = 3.0


class Served:
    """A running server and its child.

    Args:
        folder: Where its tasks, its cache and its log are.
    """

    def __init__(self, folder: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "qprompt_edge",
            "serve",
            "--port",
            "0",
            "--data",
            str(folder / "data"),
        ]
        environment = {**os.environ, "QPE_CACHE": str(folder / "cache")}
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Send a request; the answer's JSON."""
        request = urllib.request.Request(self.url.rstrip("/") + path, body, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def processes(self) -> list[int]:
        """The server and its children."""
        found = [self.process.pid]
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
        return found

    def memory(self) -> dict[str, float]:
        """RSS and PSS in MB of 10^6 bytes."""
        totals = {"Rss": 0, "Pss": 0}
        for process in self.processes():
            with suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    name, _, rest = line.partition(":")
                    if name in totals:
                        totals[name] += int(rest.split()[0]) * 1024
        return {f"{name.lower()}_mb": round(value / 1e6, 1) for name, value in totals.items()}

    def processor_seconds(self) -> float:
        """Seconds of the processor so far."""
        total = 0
        for process in self.processes():
            with suppress(OSError):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])  # proc(5): utime, stime
        return total / _TICKS

    def adapt(self) -> dict[str, float]:
        """Adapt once: seconds by the clock and of the processor, and the peak of memory."""
        peak, ended = {"rss_mb": 0.0, "pss_mb": 0.0}, threading.Event()

        def look() -> None:
            while not ended.wait(_LOOK_SECONDS):
                for name, value in self.memory().items():
                    peak[name] = max(peak[name], value)

        watching = threading.Thread(target=look)
        watching.start()
        begin, processor = time.monotonic(), self.processor_seconds()
        job = self.ask("POST", "/api/tasks/task/adapt", b"{}")["job"]
        while (state := self.ask("GET", f"/api/jobs/{job}"))["state"] in ("queued", "running"):
            time.sleep(_LOOK_SECONDS)
        seconds, used = time.monotonic() - begin, self.processor_seconds() - processor
        ended.set()
        watching.join()
        if state["state"] != "done":
            raise SystemExit(f"adapt failed: {state['error']}")
        return {"seconds": round(seconds, 2), "processor_seconds": round(used, 2), **peak}


def main() -> None:
    """Measure, print a table, and JSON last."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copytree(given.photos, Path(scratch, "data", "task"))
        server = Served(Path(scratch))
        try:
            server.ask("GET", "/api/tasks")
            found["idle"] = server.memory()
            server.ask("GET", "/api/tasks/task")  # somebody is at work: the models' process starts
            time.sleep(_SETTLE_SECONDS)
            found["at work"] = server.memory()
            found["first adaptation"] = server.adapt()
            turns = [server.adapt() for _ in range(given.turns)]
            found["adaptation"] = {name: statistics.median(it[name] for it in turns) for name in turns[0]}
            photo = next(path for path in given.photos.rglob("*") if path.is_file()).read_bytes()
            server.ask("POST", "/api/tasks/task/predict", photo)
            found["answering"] = server.memory()
        finally:
            server.process.terminate()
            server.process.wait()
    for name, facts in found.items():
        print(f"{name:18}", "  ".join(f"{key} {value:g}" for key, value in facts.items()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
