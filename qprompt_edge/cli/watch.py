"""`qprompt-edge watch`: answer the frames of a camera, a stream or a folder, for as long as it runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from qprompt_edge.cache import cache_folder
from qprompt_edge.cli.answer_lines import AnswerLines
from qprompt_edge.cli.output import reported, say
from qprompt_edge.cli.parameters import (
    INPUT,
    OUTPUT,
    AcceptOption,
    JsonOption,
    MaxMemoryOption,
    OwnBackboneOption,
    PolicyOption,
    ProviderOption,
    TaskOption,
    ThreadsOption,
    TrustOption,
    argument,
    number,
    option,
)
from qprompt_edge.memory import check_limit, check_photo, fit_activations
from qprompt_edge.watching.agreement import parse_agreement
from qprompt_edge.watching.answers import Sink
from qprompt_edge.watching.frames import Frame
from qprompt_edge.watching.health import Report
from qprompt_edge.watching.health_sink import HealthSink, check_metrics_file, metrics_file
from qprompt_edge.watching.loop import Rules, Watch, paced
from qprompt_edge.watching.mqtt_broker import BrokerError, broker, encryption, read_login
from qprompt_edge.watching.program import program
from qprompt_edge.watching.prompts import Prompts
from qprompt_edge.watching.regions import parse_regions
from qprompt_edge.watching.review_queue import MOST_FRAMES, MOST_MEGABYTES, ReviewQueue
from qprompt_edge.watching.review_sink import ReviewSink
from qprompt_edge.watching.signals import until_told
from qprompt_edge.watching.sources import EXPECTED, find_source
from qprompt_edge.watching.steady import steady
from qprompt_edge.watching.systemd import Systemd
from qprompt_edge.watching.webhook import webhook
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.decode import decoding_bytes
from qprompt_runtime.files import check_writable
from qprompt_runtime.images import ImageTransform, reading_bytes
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import read_prompt_file

if TYPE_CHECKING:
    from qprompt_edge.watching.mqtt import MqttSink

Given = TypeVar("Given")
Value = TypeVar("Value")

_LEAST_FPS = 0.001


@reported
def command(
    source: Annotated[str, argument("SOURCE", f"Where frames come from: {EXPECTED}.")],
    prompt: Annotated[
        list[Path], option(INPUT, "Prompt file to use; several answer on each frame.", metavar="FILE")
    ],
    backbone: OwnBackboneOption = None,
    region: Annotated[
        list[str] | None,
        option(
            INPUT,
            "Look at a rectangle, in per cent of the frame; may be given several times.",
            metavar="NAME=LEFT,TOP,WIDTH,HEIGHT",
        ),
    ] = None,
    size: Annotated[
        str | None,
        option(
            INPUT,
            "Size that a camera is asked for; with -, stdin holds raw RGB frames of this size instead of JPEGs.",
            metavar="WIDTHxHEIGHT",
        ),
    ] = None,
    fps: Annotated[
        float | None, number(INPUT, "Answer at most this many frames a second.", _LEAST_FPS)
    ] = None,
    once: Annotated[bool, option(INPUT, "Answer what lies in the folder now, and end.", "--once")] = False,
    still: Annotated[
        float,
        number(
            INPUT,
            "Do not look again at a region whose grey levels (0 to 255) have changed less than this; 6 suits most cameras, 0 "
            "looks at every frame.",
            0,
            max=255,
        ),
    ] = 0.0,
    agree: Annotated[
        str, option(INPUT, "Change a state when N of the last M frames agree.", metavar="N/M")
    ] = "1/1",
    min_confidence: Annotated[
        float, number(INPUT, "Least probability, 0 to 1, of an answer that changes a state.", 0, max=1)
    ] = 0.0,
    accept: AcceptOption = None,
    changes: Annotated[bool, option(OUTPUT, "Print only answers that change a state.", "--changes")] = False,
    on_change: Annotated[
        str | None,
        option(
            OUTPUT,
            "Start a program when a state changes; QPE_LABEL and others in its environment say how.",
            metavar="COMMAND",
        ),
    ] = None,
    webhook_address: Annotated[
        str | None,
        option(OUTPUT, "Post each change of a state as JSON.", "--webhook", metavar="URL"),
    ] = None,
    mqtt: Annotated[
        str | None,
        option(
            OUTPUT,
            "Tell an MQTT broker, and Home Assistant through it: mqtt:// or mqtts:// (TLS), host, port, first "
            "part of topics.",
            metavar="URL",
        ),
    ] = None,
    mqtt_login: Annotated[
        Path | None,
        option(
            OUTPUT,
            "File with the broker's user on its first line and the password on its second.",
            metavar="FILE",
        ),
    ] = None,
    mqtt_ca: Annotated[
        Path | None,
        option(
            OUTPUT,
            "Certificate (PEM) of the authority that signed the broker's; by default the system's authorities.",
            metavar="FILE",
        ),
    ] = None,
    mqtt_image: Annotated[
        bool, option(OUTPUT, "Send the broker the picture at which a state changed, too.", "--mqtt-image")
    ] = False,
    metrics: Annotated[
        Path | None,
        option(
            OUTPUT,
            "Write once a minute how the prompts fare (drift, share of none of these, answers a day), as text "
            "for Prometheus.",
            metavar="FILE",
        ),
    ] = None,
    review: Annotated[
        Path | None,
        option(
            OUTPUT,
            "Keep frames that a prompt is unsure of, or that show none of its classes, in this folder.",
            metavar="FOLDER",
        ),
    ] = None,
    review_count: Annotated[
        int, number(OUTPUT, "Most frames to keep for review; the oldest go.", 1)
    ] = MOST_FRAMES,
    review_megabytes: Annotated[float, number(OUTPUT, "Most MB that they take.", 1)] = MOST_MEGABYTES,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Answer the frames of a camera, a stream or a folder as they come.

    Prints a line for each answer; with --json, an object: time, source, region, prompt, label, probability,
    none_of_these, state, changed, predictions. A prompt file that is exchanged is taken up between two
    frames. A camera that is lost is opened again when it is back. Ends at Ctrl-C (130) or SIGTERM (0), or
    when stdin does.

    Example: qprompt-edge watch /dev/video0 --prompt belt.qpt --fps 5 --agree 3/5 --json
    """
    rules = Rules(
        _read("--region", parse_regions, region or []),
        still,
        _read("--agree", parse_agreement, agree),
        min_confidence,
    )
    telling = _mqtt(mqtt, mqtt_login, mqtt_ca, mqtt_image)
    if metrics is not None:
        check_metrics_file(metrics)
    found = find_source(source, None if size is None else _read("--size", _parse_size, size), fps, once)
    asked = Policy.of(policy, trust, task)
    name = backbone or read_prompt_file(prompt[0], asked).backbone_name
    found_backbone = Backbone.load(name, provider, threads)
    fit_activations(found_backbone, max_memory, tuning=False)
    scored = metrics is not None or telling is not None
    prompts = Prompts(prompt, found_backbone, accept, cache_folder("classes"), asked, scored)
    check_limit(max_memory, "loading the backbone")
    transform = None if region else found_backbone.manifest.image_transform
    systemd, check = Systemd(), functools.partial(_check, max_memory, transform)
    with until_told() as going_on, ExitStack() as stack:
        lines = AnswerLines(as_json, changes, len(prompt) > 1)
        sinks: list[Sink] = [lines, systemd]
        if on_change is not None:
            sinks.append(_read("--on-change", lambda text: program(text, say), on_change))
        if webhook_address is not None:
            sinks.append(_read("--webhook", lambda text: webhook(text, say), webhook_address))
        if telling is not None:
            sinks.append(telling)
        if review is not None:
            check_writable(review / "frame.jpg")
            queue = ReviewQueue(review, review_count, review_megabytes)
            sinks.append(ReviewSink(queue, rules.regions, lambda: prompts.space, found.live, say))
        tellers: list[Callable[[Report], None]] = [] if telling is None else [telling.health]
        if metrics is not None:
            tellers.append(metrics_file(metrics, version("qprompt-edge"), say))
        if tellers:
            sinks.append(HealthSink(found.name, lambda: prompts.versions, tellers))
        for sink in sinks:
            stack.callback(sink.close)

        def tick() -> bool:
            systemd.alive()
            return going_on()

        def present(here: bool, reason: str) -> None:
            for sink in sinks:
                sink.present(here, reason)

        watch = Watch(prompts, rules, sinks, found.name, say, check)
        watch.run(paced(steady(found, present), fps, found.live), tick)
        if going_on():  # the source has ended
            lines.check_all()


def _mqtt(address: str | None, login: Path | None, authority: Path | None, images: bool) -> MqttSink | None:
    """What tells a broker; wrong usage if the options do not fit together."""
    if address is None:
        if login or authority or images:
            raise typer.BadParameter("--mqtt-login, --mqtt-ca and --mqtt-image need --mqtt URL")
        return None
    found = _read("--mqtt", broker, address)
    if authority and not found.tls:
        raise typer.BadParameter("--mqtt-ca needs an address with mqtts://, which encrypts the connection")
    try:
        from qprompt_edge.watching.mqtt import MqttSink
    except ModuleNotFoundError as error:
        raise BrokerError("--mqtt needs one more package: pip install 'qprompt-edge[mqtt]'") from error
    credentials = None if login is None else read_login(login)
    context = encryption(authority) if found.tls else None
    return MqttSink(found, version("qprompt-edge"), say, credentials, context, images)


def _read(name: str, parse: Callable[[Given], Value], given: Given) -> Value:
    """What an option means; wrong usage if nothing."""
    try:
        return parse(given)
    except ValueError as error:
        raise typer.BadParameter(f"{name}: {error}") from error


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if width.isdecimal() and height.isdecimal() and 1 <= int(width) <= 16384 and 1 <= int(height) <= 16384:
        return int(width), int(height)
    raise ValueError(f"{text!r}: expected WIDTHxHEIGHT, such as 640x480")


def _check(limit: float | None, transform: ImageTransform | None, frame: Frame) -> None:
    if limit is not None:
        needed = decoding_bytes(frame.image) if transform is None else reading_bytes(frame.image, transform)
        check_photo(limit, needed)
