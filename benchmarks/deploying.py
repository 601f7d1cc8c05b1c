"""How long it is from `sign` until `watch` answers with the new prompt, for each way to a device.

    python -m benchmarks.deploying [--only install folder https mqtt mender] [--turns 5]

All on this machine, over the loopback address, as a device would do it: the commands are processes, the
servers are nginx with TLS, mosquitto, and nginx for the standalone client of Mender 3 with a real artifact.
Every prompt is signed anew, with the policy `enforce`, the default backbone and three classes; `watch` sees
ten frames a second. What is not in it: the wait for the timer, which is 15 to 20 minutes. A way whose
programs are missing is left out, and said. The last line is JSON: seconds, medians over the turns.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from PIL import Image

from benchmarks.bundles import DEFAULT, EMBEDDED
from benchmarks.tables import duration, median, text_table
from benchmarks.watch_steps import made_prompt
from qprompt_runtime.backbone import Backbone

STEPS = ("sign", "publish", "install", "answer", "total")
_PROGRAM = (sys.executable, "-m", "qprompt_edge")
_MODULE = Path(__file__).parent.parent / "deploy" / "mender" / "qprompt"
_SBIN = "/usr/sbin:/usr/local/sbin"
_FRAME_SECONDS, _PATIENCE = 0.1, 120.0

Publish = Callable[[Path], None]


class Watch:
    """A running `watch`, fed with frames; it knows when a class was first answered.

    Args:
        words: Its options.
        environment: Its environment.
    """

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        command = [*_PROGRAM, "watch", "-", *words, "--json"]
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
        self.process(*_PROGRAM, *words)

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
        self.stack.callback(server.kill)
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
            found: dict[str, list[float]] = {step: [] for step in STEPS}
            for _ in range(turns):
                mark = self.sign()
                moments = [self.began, time.monotonic()]
                publish(self.sent)
                moments.append(time.monotonic())
                install()
                moments.append(time.monotonic())
                moments.append(watch.wait(mark))
                for step, begin, end in zip(STEPS, moments, moments[1:], strict=False):
                    found[step].append(max(0.0, end - begin))  # an answer may come before `install` has ended
                found["total"].append(moments[-1] - moments[0])
        finally:
            watch.close()
        return {step: median(seconds) for step, seconds in found.items()}


def _nothing(_file: Path) -> None:
    """No way to go: the file is on the device."""


def by_install(bench: Bench) -> tuple[Publish, Callable[[], None]]:
    """`install`, of a file that was copied to the device."""
    return _nothing, lambda: bench.run("install", bench.sent, "--to", bench.to, *bench.policy)


def by_folder(bench: Bench) -> tuple[Publish, Callable[[], None]]:
    """`fetch` from a folder."""
    outbox = bench.folder / "outbox"
    outbox.mkdir()
    return lambda file: _put(file, outbox / "belt.qpt"), functools.partial(_fetch, bench, outbox)


def by_https(bench: Bench) -> tuple[Publish, Callable[[], None]]:
    """`fetch` from nginx, with TLS."""
    root, port = _nginx(bench, 18443, tls=True)
    address = f"https://127.0.0.1:{port}/belt.qpt"
    fetch = functools.partial(_fetch, bench, address, "--ca", bench.folder / "cert.pem")
    return lambda file: _put(file, root / "belt.qpt"), fetch


def by_mqtt(bench: Bench) -> tuple[Publish, Callable[[], None]]:
    """`fetch` of a retained message from mosquitto."""
    from paho.mqtt import publish

    settings = bench.folder / "mosquitto.conf"
    settings.write_text("listener 18883 127.0.0.1\nallow_anonymous true\nuser root\n")
    bench.serve(_program("mosquitto"), "-c", settings)

    def send(file: Path) -> None:
        publish.single(
            "prompts/belt", file.read_bytes(), qos=1, retain=True, hostname="127.0.0.1", port=18883
        )

    return send, functools.partial(_fetch, bench, "mqtt://127.0.0.1:18883/prompts/belt")


def by_mender(bench: Bench) -> tuple[Publish, Callable[[], None]]:
    """The update module, with an artifact from nginx, by the standalone client: `install` and `commit`."""
    root, port = _nginx(bench, 18080, tls=False)
    place = bench.folder / "mender"
    (place / "share/modules/v3").mkdir(parents=True)
    shutil.copy(_MODULE, place / "share/modules/v3/qprompt")
    for name in ("etc", "data"):
        (place / name).mkdir()
    (place / "etc/mender.conf").write_text("{}")
    (place / "etc/artifact_info").write_text("artifact_name=first\n")
    (place / "data/device_type").write_text("device_type=pi\n")
    program = place / "qprompt-edge"
    program.write_text(f'#!/bin/sh\nexec {" ".join(_PROGRAM)} "$@"\n')
    program.chmod(0o755)
    settings = f"program={program}\nto={bench.to}\npolicy='{' '.join(bench.policy)}'\n"
    (place / "qprompt.conf").write_text(settings)
    write = (_program("mender-artifact"), "write", "module-image", "-T", "qprompt", "-t", "pi", "-n", "belt")
    inside = (
        f"mount --bind {place}/share /usr/share/mender && mount --bind {place}/etc /etc/mender && "
        f'QPROMPT_MENDER_CONF={place}/qprompt.conf exec {_program("mender")} --no-syslog --data {place}/data "$@"'
    )
    mender = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh")

    def install() -> None:
        bench.process(*mender, "install", f"http://127.0.0.1:{port}/belt.mender")
        bench.process(*mender, "commit")

    return lambda file: bench.process(*write, "-f", file, "-o", root / "belt.mender"), install


WAYS = {"install": by_install, "folder": by_folder, "https": by_https, "mqtt": by_mqtt, "mender": by_mender}


def _fetch(bench: Bench, *source: object) -> None:
    bench.run("fetch", *source, "--to", bench.to, "--back-off", *bench.policy)


def _put(file: Path, place: Path) -> None:
    """Copy a file so that nobody reads half of it."""
    shutil.copy(file, place.with_suffix(".part"))
    place.with_suffix(".part").replace(place)


def _nginx(bench: Bench, port: int, *, tls: bool) -> tuple[Path, int]:
    """A web server, and the folder that it serves."""
    root, place = bench.folder / f"www-{port}", bench.folder
    root.mkdir()
    place.chmod(0o755)
    listen = f"listen 127.0.0.1:{port}"
    if tls:
        names = ("-subj", "/CN=prompts", "-addext", "subjectAltName=IP:127.0.0.1")
        new = (
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "9",
            *names,
        )
        bench.process("openssl", "req", *new, "-keyout", place / "key.pem", "-out", place / "cert.pem")
        listen += f" ssl; ssl_certificate {place}/cert.pem; ssl_certificate_key {place}/key.pem"
    log = place / f"nginx-{port}"
    settings = (
        f"daemon off; user root; pid {log}.pid; error_log {log}.log; events {{}}\nhttp {{ access_log off; "
    )
    log.with_suffix(".conf").write_text(f"{settings}server {{ {listen}; root {root}; }} }}\n")
    bench.serve(_program("nginx"), "-e", f"{log}.log", "-c", f"{log}.conf")
    return root, port


def _program(name: str) -> str:
    """Where a program is.

    Raises:
        FileNotFoundError: It is missing.
    """
    found = shutil.which(name) or shutil.which(name, path=_SBIN)
    if found is None:
        raise FileNotFoundError(name)
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    result: dict[str, Any] = {}
    for way in given.only:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            bench = Bench(Path(folder), stack)
            try:
                publish, install = WAYS[way](bench)
            except FileNotFoundError as error:
                print(f"{way} is left out: {error} is missing", file=sys.stderr)
                continue
            result[way] = bench.measure(publish, install, given.turns)
    rows = [[way, *(duration(found[step]) for step in STEPS)] for way, found in result.items()]
    print(text_table(f"From `sign` to an answer, medians of {given.turns}", ["way", *STEPS], rows))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
