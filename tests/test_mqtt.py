"""MQTT against a real mosquitto: what is said, and when."""

import json
import signal
import subprocess
import sys

import pytest
from mosquitto import (
    FRAME,
    PATIENCE,
    Listener,
    Make,
    Mosquitto,
    answer,
    broker,
    listener,
    needs_mosquitto,
    notes,
    sink,
    wait_until,
)

from qprompt_edge.watching.health import Health, Report, Version

__all__ = ["broker", "listener", "notes", "sink"]
pytestmark = needs_mosquitto


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A goodbye reaches the broker, however slow the machine is."""
    monkeypatch.setattr("qprompt_edge.watching.mqtt._FAREWELL", PATIENCE)


def test_home_assistant_finds_the_device_as_it_documents_it(
    broker: Mosquitto, listener: Listener, sink: Make
) -> None:
    sink(broker.port, regions=("left", "right"), images=True)
    listener.wait("line/belt/status", "online")
    (topic,) = [topic for topic in listener.newest if topic.startswith("homeassistant/")]
    prefix, component, node, last = topic.split("/")
    assert (prefix, component, last) == ("homeassistant", "device", "config")
    assert all(sign.isascii() and (sign.isalnum() or sign in "_-") for sign in node)
    found = json.loads(listener.newest[topic])
    assert found["device"]["identifiers"] == [node]
    assert found["device"]["name"] == "belt"
    assert found["origin"]["name"] == "qprompt-edge"
    assert found["availability"] == [{"topic": "line/belt/status"}, {"topic": "line/belt/source"}]
    assert found["availability_mode"] == "all"
    entities = found["components"].values()
    told = [each for each in entities if "entity_category" in each]
    sensors = [each for each in entities if each["platform"] == "sensor" and each not in told]
    images = [each for each in entities if each["platform"] == "image"]
    assert (len(sensors), len(images), len(told)) == (2, 2, 5)
    assert len({each["unique_id"] for each in entities}) == 9
    assert sensors[0] == {
        "platform": "sensor",
        "name": "belt left",
        "unique_id": sensors[0]["unique_id"],
        "device_class": "enum",
        "options": ["stone", "coal", "none of these"],
        "state_topic": "line/belt/belt/left/state",
        "json_attributes_topic": "line/belt/belt/left/attributes",
        "availability": [*found["availability"], {"topic": "line/belt/belt/status"}],
    }
    assert images[1]["image_topic"] == "line/belt/belt/right/image"
    assert images[1]["content_type"] == "image/jpeg"
    assert told[0] == {
        "platform": "sensor",
        "name": "belt drift",
        "unique_id": told[0]["unique_id"],
        "entity_category": "diagnostic",
        "state_topic": "line/belt/belt/health",
        "value_template": "{{ value_json.drift }}",
        "state_class": "measurement",
        "suggested_display_precision": 2,
    }
    assert {each["name"].removeprefix("belt ") for each in told} == {
        "drift", "share of none of these", "confidence", "answers a day", "last answer",
    }  # fmt: skip


def test_how_a_prompt_fares_is_there_for_who_comes_later(broker: Mosquitto, sink: Make) -> None:
    health = Health()
    health.take_up("belt", Version("ab" * 32, "belts", 7, "small", "cd" * 16, (0.5, 0.25, 0.25, 0.125, 0.0)))
    found = sink(broker.port)
    for score, none in ((0.5, False), (-0.25, True)):
        health.answered("belt", 1_800_000_000.0, 0.75, none, score)
        found.health(Report("/dev/video0", True, True, 1, 0, health.prompts()))
    later = Listener(broker.port)
    wait_until(
        lambda: json.loads(later.newest.get("line/belt/belt/health", b"{}")).get("answers") == 2, "the newest"
    )
    assert json.loads(later.newest["line/belt/belt/health"]) == {
        "drift": 0.49,
        "none_of_these": 0.5,
        "confidence": 0.75,
        "reached": {"0.8": 0.5, "0.9": 0.5, "0.95": 0.5, "0.98": 0.5, "0.99": 0.5},
        "answers": 2,
        "hours": 0.0,
        "last_answer": "2027-01-15T08:00:00.000Z",
        "sha256": "ab" * 32,
        "task": "belts",
        "sequence": 7,
        "backbone": "small",
    }
    later.close()


def test_a_prompt_that_gives_no_answers_is_offline_and_others_are_not(
    broker: Mosquitto, listener: Listener, sink: Make
) -> None:
    found = sink(broker.port, prompts={"belt": ("stone",), "door": ("open",)})
    listener.wait("line/belt/door/status", "online")
    found.withdrawn({"door": "it expired"})
    listener.wait("line/belt/door/status", "offline")
    assert listener.newest["line/belt/belt/status"] == listener.newest["line/belt/status"] == b"online"
    found.withdrawn({})
    listener.wait("line/belt/door/status", "online")


def test_states_attributes_and_images_are_there_for_who_comes_later(broker: Mosquitto, sink: Make) -> None:
    found = sink(broker.port, images=True)
    found.answer(answer("stone"), FRAME)
    first = Listener(broker.port)
    first.wait("line/belt/belt/frame/state", "stone")
    wait_until(lambda: "line/belt/belt/frame/image" in first.newest, "an image")
    first.close()
    later = Listener(broker.port)
    later.wait("line/belt/belt/frame/state", "stone")
    later.wait("line/belt/source", "online")
    told = json.loads(later.newest["line/belt/belt/frame/attributes"])
    assert told == {
        "time": "2027-01-15T08:00:00.000Z",
        "source": "/dev/video0",
        "label": "stone",
        "probability": 0.75,
        "none_of_these": False,
        "predictions": [{"label": "stone", "probability": 0.75}, {"label": "coal", "probability": 0.25}],
    }
    assert later.newest["line/belt/belt/frame/image"].startswith(b"\xff\xd8\xff")
    assert all(retained for topic, _, retained in later.heard if topic.startswith("line/"))
    later.close()


def test_only_changes_are_sent_at_once(
    broker: Mosquitto, listener: Listener, sink: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qprompt_edge.watching.mqtt._REFRESH", PATIENCE)
    found = sink(broker.port)
    found.answer(answer("stone"), FRAME)
    listener.wait("line/belt/belt/frame/state", "stone")
    for _ in range(50):
        found.answer(answer("stone", changed=False), FRAME)
    found.answer(answer("coal"), FRAME)
    listener.wait("line/belt/belt/frame/state", "coal")
    assert [payload for topic, payload, _ in listener.heard if topic.endswith("/state")] == [
        b"stone",
        b"coal",
    ]
    assert sum(topic.endswith("/attributes") for topic, _, _ in listener.heard) <= 2


def test_no_state_yet_is_what_home_assistant_calls_unknown(
    broker: Mosquitto, listener: Listener, sink: Make
) -> None:
    sink(broker.port).answer(answer(None, changed=False), FRAME)
    listener.wait("line/belt/belt/frame/state", "None")


def test_a_lost_camera_is_said(broker: Mosquitto, listener: Listener, sink: Make) -> None:
    found = sink(broker.port)
    listener.wait("line/belt/source", "online")
    found.present(False, "no such device")
    listener.wait("line/belt/source", "offline")
    found.present(True, "")
    listener.wait("line/belt/source", "online")


def test_goodbye(broker: Mosquitto, listener: Listener, sink: Make, patient: None) -> None:
    found = sink(broker.port)
    listener.wait("line/belt/status", "online")
    found.close()
    listener.wait("line/belt/status", "offline")


def test_names_with_signs_of_mqtt_keep_to_their_topics(
    broker: Mosquitto, listener: Listener, sink: Make
) -> None:
    prompts = {"a/b+#": ("x",), "a_b__": ("x",), "förderband": ("x",), "\udce9": ("x",)}
    found = sink(broker.port, prompts=prompts, regions=("left side",))
    for prompt in prompts:
        found.answer(answer("x", region="left side", prompt=prompt), FRAME)
    wait_until(lambda: sum(topic.endswith("/state") for topic in listener.newest) == 4, "four states")
    assert all(topic.count("/") == 4 for topic in listener.newest if topic.endswith("/state"))
    (config,) = [payload for topic, payload in listener.newest.items() if topic.endswith("/config")]
    announced = {each["state_topic"] for each in json.loads(config)["components"].values()}
    said = {topic for topic in listener.newest if topic.endswith("/state")}
    assert announced == said | {topic.rpartition("/left_side")[0] + "/health" for topic in said}


def test_the_last_will_after_a_kill(broker: Mosquitto, listener: Listener) -> None:
    code = (
        "import time\n"
        "from qprompt_edge.watching.mqtt import MqttSink\n"
        "from qprompt_edge.watching.mqtt_broker import Broker\n"
        f"sink = MqttSink(Broker('127.0.0.1', {broker.port}, False, 'line/belt'), '1', print)\n"
        "sink.ready({'belt': ('stone',)}, ('frame',), 'camera')\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    listener.wait("line/belt/status", "online")
    child.send_signal(signal.SIGKILL)
    child.wait()
    listener.wait("line/belt/status", "offline")


def test_a_will_that_comes_late_is_put_right(broker: Mosquitto, listener: Listener, sink: Make) -> None:
    sink(broker.port)
    listener.wait("line/belt/status", "online")
    listener.client.publish("line/belt/status", "offline", retain=True)
    will, again = (("line/belt/status", payload) for payload in (b"offline", b"online"))

    def put_right() -> bool:
        heard = [message[:2] for message in listener.heard]
        return will in heard and again in heard[heard.index(will) :]

    wait_until(put_right, "online again")


def test_a_birth_of_home_assistant_brings_the_discovery_again(
    broker: Mosquitto, listener: Listener, sink: Make
) -> None:
    sink(broker.port)
    listener.wait("line/belt/status", "online")

    def count() -> int:
        return sum(topic.startswith("homeassistant/device/") for topic, _, _ in listener.heard)

    before = count()
    listener.client.publish("homeassistant/status", "online")
    wait_until(lambda: count() == before + 1, "the discovery again")
    listener.client.publish("homeassistant/status", "offline")
    listener.client.publish("homeassistant/status", "online")
    wait_until(lambda: count() == before + 2, "the discovery again")


def test_prompts_of_an_earlier_run_are_removed(
    broker: Mosquitto, listener: Listener, sink: Make, patient: None
) -> None:
    first = sink(broker.port, prompts={"belt": ("stone",), "door": ("open",)})
    first.answer(answer("open", prompt="door"), FRAME)
    listener.wait("line/belt/door/frame/state", "open")
    first.close()
    sink(broker.port)
    listener.wait("line/belt/door/frame/state", b"")
    listener.wait("line/belt/door/status", b"")
    listener.wait("line/belt/status", "online")
    messages = [
        json.loads(payload)
        for topic, payload, _ in listener.heard
        if topic.startswith("homeassistant/device/")
    ]
    removing = [each for each in messages if {"platform": "sensor"} in each["components"].values()]
    assert len(removing) == 1
    assert len(removing[0]["components"]) == 2 * 6  # a state and five diagnostic sensors
    wait_until(
        lambda: "door" not in str(listener.newest[next(t for t in listener.newest if "/device/" in t)]),
        "no door",
    )


def test_a_damaged_discovery_on_the_broker_does_no_harm(
    broker: Mosquitto, listener: Listener, sink: Make, patient: None
) -> None:
    first = sink(broker.port)
    listener.wait("line/belt/status", "online")
    first.close()
    listener.wait("line/belt/status", "offline")
    topic = next(topic for topic in listener.newest if "/device/" in topic)
    for payload in (
        b"\xff",
        b"[" * 100_000,
        b"[1]",
        b'{"components": 3}',
        b'{"components": {"a": 1, "b": {}}}',
    ):
        listener.client.publish(topic, payload, retain=True)
        listener.wait(topic, payload)
        found = sink(broker.port)
        listener.wait("line/belt/status", "online")
        wait_until(lambda: b"unique_id" in listener.newest[topic], "the discovery")
        found.close()
        listener.wait("line/belt/status", "offline")
