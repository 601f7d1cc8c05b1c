"""How long it is from `sign` until `watch` answers with the new prompt, for each way to a device.

    python -m benchmarks.deploying [--only install folder https mqtt mender] [--turns 5]

All on this machine, over the loopback address, as a device would do it: the commands are processes, the
servers are nginx with TLS, mosquitto, and nginx for the standalone client of Mender 3 with a real artifact.
Every prompt is signed anew, with the policy `enforce`, the default backbone and three classes; `watch` sees
ten frames a second. What is not in it: the wait for the timer, which is 15 to 20 minutes. A way whose
programs are missing is left out, and said. `processor` is what the commands took of processors, which says
more on a busy machine. The last line is JSON: seconds, medians over the turns.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.deploy_bench import COLUMNS, PROGRAM, Bench, Publish
from benchmarks.tables import duration, text_table

_MODULE = Path(__file__).parent.parent / "deploy" / "mender" / "qprompt"
_SBIN = "/usr/sbin:/usr/local/sbin"


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
    root, port = _nginx(bench, tls=True)
    address = f"https://127.0.0.1:{port}/belt.qpt"
    fetch = functools.partial(_fetch, bench, address, "--ca", bench.folder / "cert.pem")
    return lambda file: _put(file, root / "belt.qpt"), fetch


def by_mqtt(bench: Bench) -> tuple[Publish, Callable[[], None]]:
    """`fetch` of a retained message from mosquitto."""
    from paho.mqtt import publish

    settings, port = bench.folder / "mosquitto.conf", _free_port()
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")
    bench.serve(_program("mosquitto"), "-c", settings)

    def send(file: Path) -> None:
        publish.single("prompts/belt", file.read_bytes(), qos=1, retain=True, hostname="127.0.0.1", port=port)

    return send, functools.partial(_fetch, bench, f"mqtt://127.0.0.1:{port}/prompts/belt")


def by_mender(bench: Bench) -> tuple[Publish, Callable[[], None]]:
    """The update module, with an artifact from nginx, by the standalone client: `install` and `commit`."""
    root, port = _nginx(bench, tls=False)
    place = bench.folder / "mender"
    (place / "share/modules/v3").mkdir(parents=True)
    shutil.copy(_MODULE, place / "share/modules/v3/qprompt")
    for name in ("etc", "data"):
        (place / name).mkdir()
    (place / "etc/mender.conf").write_text("{}")
    (place / "etc/artifact_info").write_text("artifact_name=first\n")
    (place / "data/device_type").write_text("device_type=pi\n")
    program = place / "qprompt-edge"
    program.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
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


def _free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _nginx(bench: Bench, *, tls: bool) -> tuple[Path, int]:
    """A web server: the folder that it serves, and its port."""
    root, place, port = bench.folder / "www", bench.folder, _free_port()
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
    rows = [[way, *(duration(found[column]) for column in COLUMNS)] for way, found in result.items()]
    print(text_table(f"From `sign` to an answer, medians of {given.turns}", ["way", *COLUMNS], rows))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
