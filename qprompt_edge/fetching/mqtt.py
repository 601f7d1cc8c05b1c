"""A prompt from an MQTT topic: its retained message, or one that is sent while we listen."""

from __future__ import annotations

import ssl
import time
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from qprompt_edge.fetching.sources import Content, FetchError, check_size
from qprompt_edge.watching.mqtt_broker import Broker
from qprompt_runtime.text import printable

_STEP_SECONDS = 10.0
_TURN_SECONDS = 0.2


class MqttSource:
    """A topic of a broker.

    Args:
        address: As it was given.
        broker: What it means; the topic is its prefix.
        login: User and password.
        context: How TLS trusts the broker; None for an open connection.
    """

    def __init__(
        self, address: str, broker: Broker, login: tuple[str, str] | None, context: ssl.SSLContext | None
    ) -> None:
        self.address, self.name = address, printable(address)
        self._broker, self._login, self._context = broker, login, context

    def read(self) -> Content:
        """The retained message of the topic.

        Raises:
            FetchError: There is none, or the broker does not give it.
        """
        client = paho.Client(
            CallbackAPIVersion.VERSION2
        )  # a name by chance: others may listen at the same time
        client.connect_timeout = _STEP_SECONDS
        if self._login is not None:
            client.username_pw_set(*self._login)
        if self._context is not None:
            client.tls_set_context(self._context)
        heard: list[bytes] = []
        refused: list[str] = []

        def connected(client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            if reason.is_failure:
                refused.append(f"refuses the connection: {reason}; check --login")
            else:
                client.subscribe(self._broker.prefix, qos=1)

        def subscribed(_client: Any, _data: Any, _id: Any, reasons: Any, _properties: Any) -> None:
            if any(reason.is_failure for reason in reasons):
                refused.append(f"does not let {printable(self._broker.prefix)} be read; check --login")

        client.on_connect, client.on_subscribe = connected, subscribed
        client.on_message = lambda _client, _data, message: heard.append(bytes(message.payload))
        try:
            client.connect(self._broker.host, self._broker.port)
            self._listen(client, heard, refused)
            client.disconnect()
        except ssl.SSLCertVerificationError as error:
            raise FetchError(
                f"MQTT broker {self._broker} has a certificate that is not trusted ({error.verify_message}); check --ca"
            ) from error
        except OSError as error:
            raise FetchError(f"MQTT broker {self._broker}: {error.strerror or error}") from error
        finally:
            client.on_message = None
        payload = next(filter(None, heard))
        check_size(len(payload), self.name)
        return Content(payload, self.name)

    def _listen(self, client: paho.Client, heard: list[bytes], refused: list[str]) -> None:
        """Wait until something was heard.

        Raises:
            FetchError: Nothing was, in time.
        """
        end = time.monotonic() + _STEP_SECONDS
        while not any(heard):
            lost = client.loop(_TURN_SECONDS) != paho.MQTT_ERR_SUCCESS
            if refused or (lost and not any(heard)):
                raise FetchError(
                    f"MQTT broker {self._broker} {refused[0] if refused else 'closed the connection'}"
                )
            if time.monotonic() > end:
                raise FetchError(
                    f"{self.name}: no message is retained there; publish the prompt with the flag retain "
                    "(mosquitto_pub --retain --file belt.qpt)"
                )
