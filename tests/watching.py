"""What tests of `watch` share: prompts made without tuning, coloured frames, a sink that remembers."""

import _socket
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prompts import TINY

from qprompt_edge.watching.answers import Answer, Sink
from qprompt_edge.watching.frames import Frame, Frames
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.images import to_pixels
from qprompt_runtime.prompt_file import Calibration, ClassName, PromptFile, PromptGroup, write_prompt_file

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
COLOURS = ("red wall", "green wall", "blue wall")
_BY_NAME = {"red": RED, "green": GREEN, "blue": BLUE}
ACCEPT_ALL = Calibration(30.0, (8.0, 4.0, 2.0, -4.0, -8.0))
"""Every picture scores between the first and the last of these, so that --accept alone decides."""


def made_prompt(
    backbone: Backbone, labels: Sequence[str] = COLOURS, calibration: Calibration | None = None
) -> PromptFile:
    """A prompt that knows colours: a class whose name begins with one has the feature of that colour."""
    residuals = np.zeros((len(labels), backbone.manifest.embed_dim), np.float32)
    transform = backbone.manifest.image_transform
    for row, label in enumerate(labels):
        colour = _BY_NAME.get(label.split()[0])
        if colour is not None:
            pixels = to_pixels(Image.fromarray(picture(colour)), transform)
            residuals[row] = 20 * backbone.encode_images(pixels[None])[0]
    return replace(
        TINY,
        method="qtaskres",
        groups=(
            PromptGroup.plain("class-residuals", residuals),
            PromptGroup.plain("class-offsets", np.zeros(len(labels), np.float16)),
        ),
        template=("a photo of a", "."),
        classes=tuple(ClassName.from_label(label) for label in labels),
        backbone_name=backbone.manifest.name,
        fingerprint=backbone.fingerprint,
        calibration=calibration or Calibration(30.0),
    )


def write_prompt(
    path: Path, backbone: Backbone, labels: Sequence[str] = COLOURS, calibration: Calibration | None = None
) -> Path:
    write_prompt_file(path, made_prompt(backbone, labels, calibration))
    return path


def picture(colour: Sequence[int], width: int = 64, height: int = 48) -> np.ndarray:
    """uint8 [H,W,3] of one colour."""
    return np.tile(np.array(colour, np.uint8), (height, width, 1))


def halves(left: Sequence[int], right: Sequence[int]) -> np.ndarray:
    return np.concatenate([picture(left, 32), picture(right, 32)], axis=1)


def frames(*pictures: object, source: str = "camera") -> Frames:
    """Frames of pictures; None stays None."""
    for number, item in enumerate(pictures):
        yield None if item is None else Frame(item, source, float(number))  # type: ignore[arg-type]


class Remembered(Sink):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.reasons: list[str] = []
        self.silent: list[Mapping[str, str]] = []
        self.announced: list[tuple[Mapping[str, tuple[str, ...]], tuple[str, ...], str]] = []

    def ready(self, prompts: Mapping[str, tuple[str, ...]], regions: tuple[str, ...], source: str) -> None:
        self.announced.append((prompts, regions, source))

    def answer(self, answer: Answer, frame: Frame) -> None:
        self.answers.append(answer)

    def withdrawn(self, prompts: Mapping[str, str]) -> None:
        self.silent.append(prompts)

    def skipped(self, frame: Frame, reason: str) -> None:
        self.reasons.append(reason)


def allow_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test reach its own servers on 127.0.0.1, and still nothing else."""

    def connect(door: socket.socket, address: tuple[str, int]) -> None:
        if door.family != socket.AF_UNIX and address[0] != "127.0.0.1":
            raise OSError(f"a test reached for the network: {address}")
        _socket.socket.connect(door, address)

    def getaddrinfo(host: str, port: int, *_arguments: object, **_named: object) -> list[tuple]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
