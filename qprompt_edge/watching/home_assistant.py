"""What Home Assistant wants to know to show a device's answers without a line of configuration.

One message for the device (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, Home
Assistant 2024.11 and later): a sensor for each prompt and region, whose state is one of the labels, and, if
wished, an image.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qprompt_edge.watching.answers import NONE_OF_THESE, WHOLE, Answer, rfc3339
from qprompt_edge.watching.mqtt_broker import topic_part

DISCOVERY = "homeassistant"
"""Home Assistant's own default."""
BIRTH_TOPIC, BIRTH = f"{DISCOVERY}/status", "online"
ONLINE, OFFLINE = "online", "offline"
UNKNOWN = "None"
"""The state of a sensor that has none, by Home Assistant's rule."""
_MEASURED = {"state_class": "measurement", "suggested_display_precision": 2}
_HEALTH: dict[str, tuple[str, dict[str, Any]]] = {
    "drift": ("drift", _MEASURED),
    "none_of_these": (f"share of {NONE_OF_THESE}", _MEASURED),
    "confidence": ("confidence", _MEASURED),
    "answers": ("answers a day", {"state_class": "measurement"}),
    "last_answer": ("last answer", {"device_class": "timestamp"}),
}
"""Keys of `PromptHealth.to_json`: what the sensor is called, and what else Home Assistant wants to know."""
_URL = "https://github.com/qprompt-edge/qprompt-edge"


@dataclass(frozen=True)
class Topics:
    """The topics below a prefix.

    Attributes:
        prefix: The topic above all others.
    """

    prefix: str

    @property
    def status(self) -> str:
        """`online`, or `offline`, which the broker says if the connection breaks."""
        return f"{self.prefix}/status"

    @property
    def source(self) -> str:
        """`online` while frames come, `offline` while the camera is lost."""
        return f"{self.prefix}/source"

    @property
    def discovery(self) -> str:
        """Home Assistant's topic for the device."""
        return f"{DISCOVERY}/device/{self.node}/config"

    @property
    def node(self) -> str:
        """The device's id: letters, digits and `_`; the same for a prefix for ever."""
        return _identifier(self.prefix)

    def prompt_status(self, prompt: str) -> str:
        """`online`, or `offline` for a prompt that gives no answers, as it has expired."""
        return f"{self.prefix}/{_level(prompt)}/status"

    def of(self, prompt: str, region: str) -> str:
        """What the topics of a prompt on a region begin with; `/state`, `/attributes` and `/image` follow."""
        return f"{self.prefix}/{_level(prompt)}/{_level(region)}"

    def named_in(self, described: Mapping[str, Any]) -> list[str]:
        """The topics below the prefix that a component names; it is not ours and may hold anything."""
        found = [described.get(name) for name in ("state_topic", "json_attributes_topic", "image_topic")]
        listed = described.get("availability")
        found += (
            [it.get("topic") for it in listed if isinstance(it, dict)] if isinstance(listed, list) else []
        )
        return [it for it in found if isinstance(it, str) and it.startswith(f"{self.prefix}/")]

    def health(self, prompt: str) -> str:
        """Where it is told how a prompt fares."""
        return f"{self.prefix}/{_level(prompt)}/health"


def attributes(answer: Answer) -> dict[str, Any]:
    """What is known of a state beside itself: the message of its topic `attributes`."""
    return {
        "time": rfc3339(answer.time),
        "source": answer.source,
        "label": answer.label,
        "probability": round(answer.probability, 4),
        "none_of_these": answer.none_of_these,
        "predictions": [
            {"label": label, "probability": round(value, 4)} for label, value in answer.predictions
        ],
    }


def discovery(
    topics: Topics,
    prompts: Mapping[str, tuple[str, ...]],
    regions: tuple[str, ...],
    source: str,
    version: str,
    images: bool,
) -> dict[str, Any]:
    """The message that makes a device and its entities known.

    Args:
        topics: The topics.
        prompts: Name of each prompt to its labels.
        regions: Names of the regions.
        source: Name of the source.
        version: Of this program.
        images: Whether each prompt and region has an image too.
    """
    components: dict[str, dict[str, Any]] = {}
    availability = [{"topic": topics.status}, {"topic": topics.source}]
    for prompt, labels in prompts.items():
        own = {"availability": [*availability, {"topic": topics.prompt_status(prompt)}]}
        for region in regions:
            topic, name = topics.of(prompt, region), prompt if region == WHOLE else f"{prompt} {region}"
            unique = f"{topics.node}_{_identifier(topic.removeprefix(topics.prefix + '/'))}"
            components[unique] = {
                "platform": "sensor",
                "name": name,
                "unique_id": unique,
                "device_class": "enum",
                "options": list(dict.fromkeys((*labels, NONE_OF_THESE))),
                "state_topic": f"{topic}/state",
                "json_attributes_topic": f"{topic}/attributes",
                **own,
            }
            if images:
                components[f"{unique}_image"] = {
                    "platform": "image",
                    "name": name,
                    "unique_id": f"{unique}_image",
                    "image_topic": f"{topic}/image",
                    "content_type": "image/jpeg",
                    **own,
                }
        components.update(_health(topics, prompt))
    return {
        "device": {
            "identifiers": [topics.node],
            "name": topics.prefix.rpartition("/")[2],
            "manufacturer": "qprompt-edge",
            "model": source,
            "sw_version": version,
        },
        "origin": {"name": "qprompt-edge", "sw_version": version, "support_url": _URL},
        "availability": availability,
        "availability_mode": "all",
        "components": components,
    }


def _health(topics: Topics, prompt: str) -> dict[str, dict[str, Any]]:
    """Diagnostic sensors that say how a prompt fares."""
    topic = topics.health(prompt)
    unique = f"{topics.node}_{_identifier(topic.removeprefix(topics.prefix + '/'))}"
    return {
        f"{unique}_{key}": {
            "platform": "sensor",
            "name": f"{prompt} {words}",
            "unique_id": f"{unique}_{key}",
            "entity_category": "diagnostic",
            "state_topic": topic,
            "value_template": f"{{{{ value_json.{key} }}}}",
            **more,
        }
        for key, (words, more) in _HEALTH.items()
    }


def stale_components(before: object, now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Components that an earlier message named and the present one does not.

    Args:
        before: What the broker had, as parsed JSON; anything.
        now: The present message.

    Returns:
        Each by its id, as it was described.
    """
    named = before.get("components") if isinstance(before, dict) else None
    if not isinstance(named, dict):
        return {}
    return {
        key: described
        for key, described in named.items()
        if key not in now["components"]
        and isinstance(described, dict)
        and isinstance(described.get("platform"), str)
    }


def with_removed(now: Mapping[str, Any], stale: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The message that removes components: each is named with its platform and nothing else."""
    gone = {key: {"platform": described["platform"]} for key, described in stale.items()}
    return {**now, "components": {**now["components"], **gone}}


def _level(name: str) -> str:
    """A name as one level of a topic; two names never share one."""
    level = topic_part(name)
    return level if level == name else f"{level}-{_short_hash(name)}"


def _identifier(text: str) -> str:
    """Text in the letters that Home Assistant's ids may have; two texts never share one."""
    plain = re.sub(r"[^a-zA-Z0-9_]", "_", text)
    return plain if plain == text else f"{plain}_{_short_hash(text)}"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:6]
