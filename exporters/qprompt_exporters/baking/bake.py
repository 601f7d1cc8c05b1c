"""Write a classifier as one ONNX file, or give a file that was written before another head."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from qprompt_exporters.baking import model_file
from qprompt_exporters.baking.head_graph import PROBABILITIES, append_head, head_bytes
from qprompt_exporters.baking.photo_graph import IMAGE, PIXELS, append_photo
from qprompt_exporters.baking.storage import PRECISIONS, store
from qprompt_exporters.baking.tower import append_tower, has_image_prompts
from qprompt_runtime.arrays import Array
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.cores import usable_cores
from qprompt_runtime.errors import BackboneMismatchError, BakeError
from qprompt_runtime.images import to_pixels
from qprompt_runtime.processor import FLOAT
from qprompt_runtime.prompt_features import prompted_image_features
from qprompt_runtime.text import printable

IR_VERSION, OPSET = 9, 18
"""What onnxruntime 1.19 and everything after it reads; as in bundles."""
_PIXELS = ("float32", "uint8")
_MOST_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Baked:
    """What was written.

    Attributes:
        size: Bytes of the file.
        head_size: Bytes of it that depend on the classes.
        pixels: `float32` or `uint8`: what the model takes.
        precision: `fp32`, `fp16` or `int8`: how the tower's matrices are stored.
        labels: The classes.
        none_of_these: Whether it answers "none of these".
        difference: The largest difference to our own probabilities on one picture of noise; None if it was
            not compared.
    """

    size: int
    head_size: int
    pixels: str
    precision: str
    labels: tuple[str, ...]
    none_of_these: bool
    difference: float | None


def bake(
    classifier: PromptClassifier, out: Path, *, pixels: str = "float32", precision: str | None = None
) -> Baked:
    """Write a classifier as one ONNX file.

    Args:
        classifier: Prompt, backbone and classes.
        out: The file.
        pixels: `float32`: it takes `pixels` float32 [N,3,S,S] as `images.to_pixels` makes them; `uint8`: it
            takes `image` uint8 [N,H,W,3], red first, of any size.
        precision: How the tower's weights are stored, `fp32`, `fp16` or `int8`; None as in the bundle. An
            int8 bundle computes with integers and stays as it is.

    Raises:
        BakeError: The precision cannot be had from this bundle, the result is too large for one file, or it
            does not answer as we do.
        OutputError: `out` cannot be written.
        TextError: A class has no words.
        ValueError: `pixels` or `precision` is none of these.
    """
    for value, known in ((pixels, _PIXELS), (precision, (None, *PRECISIONS))):
        if value not in known:
            raise ValueError(f"{value!r} is not one of {known}")
    graph = classifier.backbone.manifest.image_graph
    if graph.precision == "int8" and precision not in (None, "int8"):
        raise BakeError(
            f"an int8 bundle cannot be baked as {precision}; leave --precision out, or take the fp32 or fp16 "
            "bundle"
        )
    _ = classifier.class_features  # before the image tower is in memory
    stored = precision or graph.precision
    model = _model(classifier, pixels)
    if stored != graph.precision:
        store(model.graph, stored)
    append_head(model.graph, classifier)
    model_file.check_size(model)
    facts = model_file.metadata(classifier, _checksum(classifier))
    facts |= {
        "pixels": pixels,
        "precision": stored,
        "image_prompts": str(has_image_prompts(classifier)).lower(),
    }
    difference = _compare(model, classifier, pixels)
    if stored == graph.precision and difference > _MOST_DIFFERENCE:
        raise BakeError(
            f"the classifier's probabilities differ by {difference:.2g} from our own; this is a defect, please "
            "report it"
        )
    return _written(model, facts, classifier, out, difference)


def update(classifier: PromptClassifier, path: Path, out: Path) -> Baked:
    """Give a baked file the head of another classifier of the same backbone; its tower is not looked at.

    Args:
        classifier: The new prompt. Its image tower is not opened.
        path: A file that `bake` wrote.
        out: Where the result goes; may be `path`.

    Raises:
        BackboneMismatchError: The file holds another backbone's tower.
        BakeError: `path` is no baked classifier, or one of the two prompts is part of the image tower.
        OutputError: `out` cannot be written.
        TextError: A class has no words.
    """
    model = model_file.read(path)
    old = model_file.facts_of(model)
    manifest = classifier.backbone.manifest
    if old["fingerprint"] != manifest.fingerprint:
        raise BackboneMismatchError(
            f"{printable(path)} was baked with backbone {old['backbone']!r} ({old['fingerprint'][:8]}), but the "
            f"prompt was tuned for {manifest.name!r} ({manifest.fingerprint[:8]}); bake it anew"
        )
    if has_image_prompts(classifier) or old["image_prompts"] == "true":
        raise BakeError(
            "prompts of method qmaple are part of the image tower; bake it anew, without --update"
        )
    append_head(model.graph, classifier)
    kept = {name: old[name] for name in ("pixels", "precision", "image_prompts")}
    return _written(
        model, model_file.metadata(classifier, _checksum(classifier)) | kept, classifier, out, None
    )


def _written(
    model: onnx.ModelProto,
    facts: dict[str, str],
    classifier: PromptClassifier,
    out: Path,
    difference: float | None,
) -> Baked:
    size = model_file.write(model, facts, out)
    return Baked(
        size=size,
        head_size=head_bytes(model.graph),
        pixels=facts["pixels"],
        precision=facts["precision"],
        labels=classifier.labels,
        none_of_these=classifier.least_score is not None,
        difference=difference,
    )


def _checksum(classifier: PromptClassifier) -> str:
    return hashlib.sha256(classifier.prompt.to_bytes()).hexdigest()


def _model(classifier: PromptClassifier, pixels: str) -> onnx.ModelProto:
    """A new model from pixels, or from photos as bytes, to `features`."""
    manifest = classifier.backbone.manifest
    batch = manifest.image_graph.max_batch or "N"
    graph = onnx.GraphProto(name="classifier")
    if pixels == "uint8":
        source = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, [batch, "H", "W", 3])
        append_photo(graph, manifest.image_transform)
    else:
        shape = [batch, 3, *manifest.image_transform.size]
        source = helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, shape)
    graph.input.append(source)
    append_tower(graph, classifier)
    model: onnx.ModelProto = helper.make_model(
        graph,
        producer_name="qprompt-edge",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    return model


def _compare(model: onnx.ModelProto, classifier: PromptClassifier, pixels: str) -> float:
    """The largest difference between a model's probabilities and our own, on a picture of noise."""
    from PIL import Image

    transform = classifier.backbone.manifest.image_transform
    noise = np.random.default_rng(0).integers(0, 256, (*transform.size, 3), np.uint8)
    prepared = to_pixels(Image.fromarray(noise), transform)[None]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = classifier.backbone.threads or usable_cores()
    provider = classifier.backbone.provider  # others round differently
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, [provider])
    feed = {IMAGE: noise[None]} if pixels == "uint8" else {PIXELS: prepared}
    found: Array = session.run([PROBABILITIES], feed)[0]
    ours = classifier.probabilities(_exact_features(classifier, prepared))
    return float(np.abs(found - ours).max())


def _exact_features(classifier: PromptClassifier, pixels: Array) -> Array:
    """Features by the tower that is baked, where another one runs here (`processor`)."""
    frozen = classifier.backbone
    if frozen.image_graph == frozen.manifest.image_graph:
        return classifier.encode_images(pixels)
    provider = frozen.provider.removesuffix("ExecutionProvider")
    exact = type(frozen)(frozen.folder, provider, frozen.threads, frozen.manifest, FLOAT)
    return prompted_image_features(classifier.prompt, exact, pixels)
