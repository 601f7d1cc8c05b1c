"""A baked classifier's file: an ONNX model whose metadata says what it is.

`docs/bake.md` lists the metadata. Values are text; `labels` and `preprocessing` are JSON. Each label stands
under `label.0`, `label.1`, ... too, for languages without a JSON reader at hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import onnx
from onnx import helper

from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import BakeError
from qprompt_runtime.files import write_atomic
from qprompt_runtime.text import printable

FORMAT = "qprompt-edge classifier 1"
MOST_BYTES = 2_000_000_000
"""Of arrays; a protobuf message has less than 2^31 bytes."""


def metadata(classifier: PromptClassifier, checksum: str) -> dict[str, str]:
    """What a baked file says about its classes, its prompt and its backbone.

    Args:
        classifier: What was baked.
        checksum: Hexadecimal SHA-256 of the prompt.
    """
    manifest = classifier.backbone.manifest
    labels = classifier.labels
    facts = {
        "format": FORMAT,
        "labels": json.dumps(labels, ensure_ascii=False),
        "preprocessing": json.dumps(asdict(manifest.image_transform)),
        "backbone": manifest.name,
        "fingerprint": manifest.fingerprint,
        "licence": manifest.licence,
        "prompt_sha256": checksum,
        "logit_scale": repr(classifier.head.logit_scale),
        "tool_version": version("qprompt-edge"),
    }
    if classifier.least_score is not None:
        facts["none_of_these_below"] = repr(classifier.least_score)
    return facts | {f"label.{number}": label for number, label in enumerate(labels)}


def facts_of(model: onnx.ModelProto) -> dict[str, str]:
    """A model's metadata."""
    return {entry.key: entry.value for entry in model.metadata_props}


def labels_of(path: Path) -> list[str]:
    """The labels of a baked file.

    Raises:
        BakeError: It cannot be read, or is no baked classifier.
    """
    labels: list[str] = json.loads(facts_of(read(path))["labels"])
    return labels


def read(path: Path) -> onnx.ModelProto:
    """Read a baked file.

    Raises:
        BakeError: It cannot be read, or is no baked classifier.
    """
    try:
        model = onnx.load_from_string(path.read_bytes())
    except OSError as error:
        raise BakeError(f"cannot read {printable(path)}: {error.strerror or error}") from error
    except Exception as error:  # protobuf's own, whose class differs between its versions
        raise BakeError(f"{printable(path)} is no ONNX file; expected one that bake wrote") from error
    found = facts_of(model).get("format")
    if found != FORMAT:
        raise BakeError(
            f"{printable(path)} is no classifier that this version of bake wrote: its metadata has the format "
            f"{found!r:.80}, expected {FORMAT!r}"
        )
    return model


def check_size(model: onnx.ModelProto) -> None:
    """Refuse a model that does not fit one file.

    Raises:
        BakeError: Says how large it would be.
    """
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size > MOST_BYTES:
        raise BakeError(
            f"the classifier would have {size / 1e9:.1f} GB, one ONNX file may have {MOST_BYTES / 1e9:.1f}; take "
            "--precision fp16 or int8"
        )


def write(model: onnx.ModelProto, facts: dict[str, str], path: Path) -> int:
    """Check a model, give it its metadata and write it; how many bytes it has.

    The same model and facts give the same bytes.

    Raises:
        OutputError: It cannot be written.
    """
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    write_atomic(path, content)
    return len(content)
