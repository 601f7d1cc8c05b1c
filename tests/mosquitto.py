"""A real broker for tests, mosquitto on a free port, and a client that notes what it hears."""

import contextlib
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from patience import PATIENCE, wait_until
from PIL import Image

from qprompt_edge.watching.answers import Answer
from qprompt_edge.watching.frames import Frame
from qprompt_edge.watching.mqtt_broker import Broker

paho = pytest.importorskip("paho.mqtt.client", reason="needs the extra `mqtt`")

from qprompt_edge.watching.mqtt import MqttSink  # noqa: E402

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto, from Debian's package")
_CHANCE = random.SystemRandom()  # not what tests seed


_PORTS = range(10_000, 32_000)
"""Below those that systems give to connections: no other test's connection takes a broker's that restarts."""


def free_port() -> int:
    """A port that nothing listens on; the chance that another process takes it next is small."""
    while True:
        port = _CHANCE.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Mosquitto:
    """A broker that forgets everything when it stops."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port, self.folder = free_port(), folder
        self._config = folder / "mosquitto.conf"
        self._lines = lines or ("allow_anonymous true",)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        lines = (f"listener {self.port} 127.0.0.1", "user root", "persistence false", *self._lines)
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(MOSQUITTO), "-c", str(self._config)], stdout=log, stderr=log
            )
        try:
            wait_until(self._listens, "mosquitto listens")
        except BaseException:
            self.stop()
            raise

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Listener:
    """Notes the newest message of each topic, and all of them in order."""

    def __init__(self, port: int, set_up: Callable[[object], None] = lambda _client: None) -> None:
        self.newest: dict[str, bytes] = {}
        self.heard: list[tuple[str, bytes, bool]] = []
        self._ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        set_up(self.client)
        self.client.on_connect = lambda client, *_rest: client.subscribe("#")
        self.client.on_subscribe = lambda *_rest: self._ready.set()
        self.client.on_message = self._note
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._ready.wait(PATIENCE)

    def _note(self, _client: object, _data: object, message: object) -> None:
        self.heard.append((message.topic, message.payload, message.retain))
        self.newest[message.topic] = message.payload

    def wait(self, topic: str, payload: bytes | str) -> None:
        expected = payload.encode() if isinstance(payload, str) else payload
        wait_until(
            lambda: self.newest.get(topic) == expected,
            f"{topic} is {expected!r}; heard was {self.newest.get(topic)!r}",
        )

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that lets everyone in."""
    found = Mosquitto(tmp_path)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Listener]:
    """What is said on that broker."""
    found = Listener(broker.port)
    yield found
    found.close()


# ---------------------------------------------------------------------- what is tested

PROMPTS = {"belt": ("stone", "coal")}
FRAME = Frame(Image.new("RGB", (64, 48), (10, 20, 30)), "/dev/video0", 1_800_000_000.0)
Make = Callable[..., MqttSink]


def answer(state: str | None, changed: bool = True, region: str = "frame", prompt: str = "belt") -> Answer:
    return Answer(
        1_800_000_000.0, "/dev/video0", region, prompt, "stone", 0.75001, False, state, changed, (("stone", 0.75001), ("coal", 0.24999))
    )  # fmt: skip


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def sink(notes: list[str]) -> Iterator[Make]:
    """`sink(port, ...)`: one that has said what it watches; closed at the end."""
    made: list[MqttSink] = []

    def make(
        port: int, regions: tuple[str, ...] = ("frame",), tls: bool = False, **options: object
    ) -> MqttSink:
        prompts = options.pop("prompts", PROMPTS)
        found = MqttSink(Broker("127.0.0.1", port, tls, "line/belt"), "1.2", notes.append, **options)
        made.append(found)
        found.ready(prompts, regions, "/dev/video0")
        return found

    yield make
    for each in made:
        each.close()
