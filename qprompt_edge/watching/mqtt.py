"""Answers over MQTT: what a house or a factory listens to, and Home Assistant finds by itself.

The idea: every message is retained and says how things are now, so of each topic only the newest message
counts. Those are kept here; with every connection all of them are sent, and while there is none they merely
replace each other. So nothing grows however long a broker is away, no state is lost when it comes back, and a
broker that forgot everything has it again.
The connection lives in paho's thread, which tries again after 1, 2, 4, ... 60 seconds. The loop's thread only
leaves messages here, and never waits.

Topics below the prefix, all retained:

    status                        online | offline (the broker says offline if the connection breaks)
    source                        online | offline (the camera)
    <prompt>/status               online | offline (it has expired and gives no answers)
    <prompt>/<region>/state       the label that enough frames agree on, or "none of these"
    <prompt>/<region>/attributes  JSON: time, source, label, probability, none_of_these, predictions
    <prompt>/<region>/image       JPEG of the frame at which the state changed (`--mqtt-image`)
    <prompt>/health               JSON: how the prompt fared in the last day (`health`)
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from qprompt_edge.watching.answers import Answer, Sink
from qprompt_edge.watching.frames import Frame
from qprompt_edge.watching.health import Report
from qprompt_edge.watching.home_assistant import (
    BIRTH,
    BIRTH_TOPIC,
    OFFLINE,
    ONLINE,
    UNKNOWN,
    Topics,
    attributes,
    discovery,
    stale_components,
    with_removed,
)
from qprompt_edge.watching.mqtt_broker import Broker
from qprompt_runtime.errors import ImageError

_KEEP_ALIVE = 30  # seconds after which a broker counts as gone that says nothing
_LEAST_WAIT, _MOST_WAIT = 1, 60  # seconds between attempts
_REFRESH = 30.0  # seconds after which attributes are sent again though the state is the same
_UNDER_WAY = 20  # messages given to paho that are not written to the socket yet
_BIRTH_DELAY = 1.0  # seconds at most, so that not all devices speak at once when Home Assistant starts
_FAREWELL = 1.0  # seconds


class MqttSink(Sink):
    """Tells a broker how things are.

    Args:
        broker: Where it is.
        version: Of this program, for Home Assistant.
        note: Prints a line for people; called from another thread.
        login: User and password.
        context: How TLS trusts the broker; needed if the broker asks for TLS.
        images: Whether the frame at which a state changed is sent.
    """

    def __init__(
        self,
        broker: Broker,
        version: str,
        note: Callable[[str], None],
        login: tuple[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        images: bool = False,
    ) -> None:
        self._broker, self._version, self._note, self._images = broker, version, note, images
        self._topics = Topics(broker.prefix)
        self._lock = threading.RLock()
        self._newest: dict[str, bytes] = {}
        self._unsent: dict[str, None] = {}  # topics, in the order in which they are due
        self._under_way = 0
        self._connected = False
        self._closing, self._said = False, ""
        self._sent_at: dict[tuple[str, str], float] = {}
        self._message: dict[str, Any] = {}
        self._gone = threading.Event()
        self._birth_due = False
        self._client = self._new_client(login, context)

    def _new_client(self, login: tuple[str, str] | None, context: ssl.SSLContext | None) -> paho.Client:
        identity = sha256(f"{socket.gethostname()}\0{self._broker.prefix}".encode()).hexdigest()[:12]
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"qprompt-edge-{identity}")
        client.suppress_exceptions = True  # one would end paho's thread in silence
        if login is not None:
            client.username_pw_set(*login)
        if context is not None:
            client.tls_set_context(context)
        client.will_set(self._topics.status, OFFLINE, retain=True)
        client.reconnect_delay_set(_LEAST_WAIT, _MOST_WAIT)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    # ------------------------------------------------------------------ from the loop's thread

    def ready(self, prompts: Mapping[str, tuple[str, ...]], regions: tuple[str, ...], source: str) -> None:
        """Make the device known; the first time, begin to connect."""
        first = not self._message
        self._message = discovery(self._topics, prompts, regions, source, self._version, self._images)
        self._set(self._topics.discovery, _json(self._message))
        if first:
            self._set(self._topics.status, ONLINE)
            self._set(self._topics.source, ONLINE)
            self._prompts = tuple(prompts)
            self.withdrawn({})
            self._client.connect_async(self._broker.host, self._broker.port, _KEEP_ALIVE)
            self._client.loop_start()

    def answer(self, answer: Answer, frame: Frame) -> None:
        """Tell a new state at once, and what is known of an old one now and then."""
        key, now = (answer.prompt, answer.region), time.monotonic()
        if not answer.changed and now - self._sent_at.get(key, -_REFRESH) < _REFRESH:
            return
        self._sent_at[key] = now
        topic = self._topics.of(*key)
        self._set(f"{topic}/attributes", _json(attributes(answer)))
        self._set(f"{topic}/state", UNKNOWN if answer.state is None else answer.state)
        if self._images and answer.changed:
            try:
                self._set(f"{topic}/image", frame.jpeg())
            except ImageError as error:
                self._note(f"no image for MQTT: {error}")

    def present(self, here: bool, reason: str) -> None:
        """Tell whether the camera is there."""
        self._set(self._topics.source, ONLINE if here else OFFLINE)

    def withdrawn(self, prompts: Mapping[str, str]) -> None:
        """Tell which prompts give answers."""
        for name in self._prompts:
            self._set(self._topics.prompt_status(name), OFFLINE if name in prompts else ONLINE)

    def health(self, report: Report) -> None:
        """Tell how the prompts fare; from any thread."""
        for it in report.prompts:
            self._set(self._topics.health(it.prompt), _json(it.to_json()))

    def close(self) -> None:
        """Say goodbye, if there is anyone to say it to."""
        deadline = time.monotonic() + _FAREWELL
        self._wait(deadline, lambda: not self._unsent)  # a short run may end before the connection is there
        self._closing = True
        self._set(self._topics.status, OFFLINE)
        self._wait(deadline, lambda: not self._unsent and not self._under_way)
        connected = self._connected
        self._client.disconnect()
        if connected:
            self._gone.wait(max(0.0, deadline - time.monotonic()))

    def _wait(self, deadline: float, done: Callable[[], bool]) -> None:
        """Wait for what is under way, unless there is trouble anyway."""
        while time.monotonic() < deadline and not self._said:
            with self._lock:
                if done():
                    return
            time.sleep(0.01)

    # ------------------------------------------------------------------ messages

    def _set(self, topic: str, message: str | bytes) -> None:
        """This is how things are now; it is sent when it can be."""
        payload = message if isinstance(message, bytes) else message.encode("utf-8", "replace")
        with self._lock:
            if self._newest.get(topic) == payload and topic not in self._unsent:
                return
            self._newest[topic] = payload
            self._unsent[topic] = None
        self._send()

    def _send(self) -> None:
        """Hand on what is due, as long as the socket takes it."""
        with self._lock:
            while self._connected and self._unsent and self._under_way < _UNDER_WAY:
                topic = next(iter(self._unsent))
                if self._client.publish(topic, self._newest[topic], retain=True).rc != paho.MQTT_ERR_SUCCESS:
                    return  # the connection broke a moment ago; everything is sent with the next
                del self._unsent[topic]
                self._under_way += 1

    # ------------------------------------------------------------------ from paho's thread

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._trouble(f"refuses the connection: {reason}; check --mqtt-login")
            return
        # the broker answers in this order: what it has of our device comes before what we send of it
        client.subscribe([(BIRTH_TOPIC, 0), (self._topics.discovery, 0), (self._topics.status, 0)])
        self._gone.clear()
        with self._lock:
            self._connected, self._under_way = True, 0
            self._unsent = dict.fromkeys(self._newest)
            said, self._said = self._said, ""
        if said:
            self._note(f"MQTT broker {self._broker}: connected")
        self._send()

    def _on_connect_fail(self, _client: paho.Client, _data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls this where it handles what went wrong
        if isinstance(error, ssl.SSLCertVerificationError):
            self._trouble(f"has a certificate that is not trusted ({error.verify_message}); check --mqtt-ca")
        elif isinstance(error, OSError):
            self._trouble(f"cannot be reached: {error.strerror or error}")

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        with self._lock:
            was, self._connected = self._connected, False
        self._gone.set()
        if was and not self._closing:
            self._trouble(f"is gone ({reason})")

    def _on_publish(self, _client: paho.Client, _data: Any, _id: int, _reason: Any, _properties: Any) -> None:
        with self._lock:
            self._under_way = max(0, self._under_way - 1)
        self._send()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.topic == BIRTH_TOPIC and message.payload == BIRTH.encode():
            self._answer_birth()
        elif (
            message.topic == self._topics.status and message.payload == OFFLINE.encode() and not self._closing
        ):
            self._send_again(self._topics.status)  # the will of a connection that broke before this one
        elif message.topic == self._topics.discovery and message.retain:
            self._remove_stale(bytes(message.payload))

    def _answer_birth(self) -> None:
        """Make the device known again in a moment; births that come meanwhile ask for no more."""
        if not self._birth_due:
            self._birth_due = True
            timer = threading.Timer(random.uniform(0, _BIRTH_DELAY), self._make_known_again)
            timer.daemon = True
            timer.start()

    def _make_known_again(self) -> None:
        self._birth_due = False  # before it is sent: a birth from now on asks again
        self._send_again(self._topics.discovery)

    def _send_again(self, topic: str) -> None:
        with self._lock:
            self._unsent[topic] = None
        self._send()

    def _remove_stale(self, payload: bytes) -> None:
        """Remove what an earlier run made known, with other prompts or regions."""
        try:
            before = json.loads(payload)
        except (ValueError, RecursionError):
            return
        stale = stale_components(before, self._message)
        if not stale:
            return
        self._client.publish(self._topics.discovery, _json(with_removed(self._message, stale)), retain=True)
        for described in stale.values():
            for topic in set(self._topics.named_in(described)) - self._newest.keys():
                self._client.publish(topic, b"", retain=True)
        self._send_again(self._topics.discovery)

    def _trouble(self, what: str) -> None:
        """Say what is wrong, once until it is something else or is over."""
        with self._lock:
            if what == self._said or self._closing:
                return
            self._said = what
        self._note(f"MQTT broker {self._broker} {what}. Trying again; answers go on")


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
