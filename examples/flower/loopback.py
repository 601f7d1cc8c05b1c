"""Run the example on this machine: a server and three clients, processes that talk over 127.0.0.1.

    python loopback.py ../photos

The photos are dealt out: a fifth is the server's hold-out, the rest is split among the clients' folders.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

APP = Path(__file__).parent
BIN = Path(sys.executable).parent
CLIENTS, PORT = 3, 9900
HOLDOUT = "holdout"
_EVERY = 5
_PATIENCE = 120


def deal(photos: Path, out: Path, clients: int) -> list[Path]:
    """Copy photos into a hold-out and a folder for each client, one sub-folder per class in each."""
    places = [out / f"client-{number}" for number in range(clients)]
    for label in sorted(path for path in photos.iterdir() if path.is_dir()):
        for number, photo in enumerate(sorted(label.iterdir())):
            place = out / HOLDOUT if number % _EVERY == 0 else places[number % _EVERY % clients]
            (place / label.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, place / label.name)
    return places


@contextmanager
def started(program: str, *arguments: str, log: Path, environment: dict[str, str]) -> Iterator[None]:
    """A process of Flower's that ends with the block; what it prints goes to a file."""
    with log.open("w") as file:
        process = subprocess.Popen([BIN / program, *arguments], env=environment, stdout=file, stderr=file)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def wait_for(port: int) -> None:
    """Return when something listens on this machine's port."""
    until = time.monotonic() + _PATIENCE
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until:
            raise SystemExit(f"nothing listens on port {port} after {_PATIENCE} seconds")
        time.sleep(0.2)


def main() -> None:
    """Start everything, run the rounds, stop everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photos", type=Path, help="a folder with one sub-folder of photos per class")
    parser.add_argument("--out", type=Path, default=Path("fleet.qpt"), help="the merged prompt")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prompt-fleet-")))
        places = deal(options.photos, work, CLIENTS)
        (work / "flower").mkdir()
        (work / "flower" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{PORT}"\ninsecure = true\n'
        )
        environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "FLWR_HOME": str(work / "flower"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
        }
        stack.enter_context(
            started(
                "flower-superlink", "--insecure", "--disable-runtime-dependency-installation", "--port", str(PORT),
                log=work / "server.log", environment=environment,
            )
        )  # fmt: skip
        wait_for(PORT)
        for number, place in enumerate(places, 1):
            stack.enter_context(
                started(
                    "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{PORT}", "--port", str(PORT + number),
                    "--node-config", f'photos="{place}"', log=place.with_suffix(".log"), environment=environment,
                )
            )  # fmt: skip
        settings = f'rounds={options.rounds} holdout="{work / HOLDOUT}" out="{options.out.resolve()}"'
        command = [BIN / "flwr", "run", APP, "here", "--stream", "--run-config", settings]
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode or not options.out.exists():
            for log in sorted(work.glob("*.log")):
                sys.stderr.write(f"--- {log.name}\n{log.read_text()}\n")
            raise SystemExit(1)


if __name__ == "__main__":
    main()
