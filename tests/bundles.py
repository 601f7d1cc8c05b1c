"""A small bundle whose graphs are no graphs, ways to change it, and what the user's backbone folder holds."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qprompt_runtime.bundle import file_record, user_folder
from qprompt_runtime.manifest import FORMAT_VERSION

FILES = {
    "image.onnx": b"not a graph",
    "image.weights": bytes(5000),
    "text.onnx": b"not a graph either",
    "text-gradient.onnx": b"nor this",
    "text.weights": bytes(range(256)) * 20,
    "tokenizer.json": b"{}",
}
GRAPH = {"precision": "fp32", "inputs": {"pixels": ["B", 3, 8, 8]}, "outputs": {}, "max_batch": 0}


def facts() -> dict[str, Any]:
    """A manifest without its files' records."""
    return {
        "format_version": FORMAT_VERSION,
        "name": "dummy",
        "pretrained": "",
        "random_weights": True,
        "licence": "none",
        "fingerprint": "00112233445566778899aabbccddeeff",
        "embed_dim": 32,
        "logit_scale": 100.0,
        "image_transform": {
            "size": [8, 8], "resize_mode": "shortest", "interpolation": "bicubic",
            "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "fill_color": 0,
        },
        "text": {
            "width": 64, "layers": 3, "context_length": 77, "causal": True, "cleaning": "lower",
            "start_token": 49406, "end_token": 49407, "pad_token": 0, "pooling": "end_token",
        },
        "image_graph": {"file": "image.onnx", **GRAPH},
        "int8_image_graph": None,
        "text_graph": {"file": "text.onnx", **GRAPH},
        "text_gradient_graph": {"file": "text-gradient.onnx", **GRAPH},
        "deep": None,
        "files": {},
        "parity": {"gradient_error": 1e-6},
        "accuracy": {},
        "tool_version": "0.1.0",
    }  # fmt: skip


def write_bundle(folder: Path) -> Path:
    """A bundle named dummy, sound as far as its manifest goes; returns `folder`."""
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    records = {name: vars(file_record(folder / name)) for name in FILES}
    (folder / "manifest.json").write_text(json.dumps({**facts(), "files": records}), encoding="utf-8")
    return folder


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    raw = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    edit(raw)
    (folder / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")


def zipped(folder: Path, prefix: str = "dummy/", method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder.parent / "dummy.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def installed() -> list[str]:
    """What the user's backbone folder holds, hidden leftovers included."""
    return names(user_folder()) if user_folder().exists() else []


def assert_one_line(error: pytest.ExceptionInfo[BaseException]) -> None:
    assert str(error.value).strip()
    assert "\n" not in str(error.value), str(error.value)
