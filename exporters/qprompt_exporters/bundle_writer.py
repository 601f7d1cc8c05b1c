"""Write a backbone bundle: graphs, tokenizer and manifest, checked against torch before it gets its name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import onnx

from qprompt_exporters import parity
from qprompt_exporters.deep_image_graph import deep_image_graph
from qprompt_exporters.image_graph import image_graph, stem_graph, to_fp16_storage, to_int8
from qprompt_exporters.models import SourceModel, load_source
from qprompt_exporters.nouns import write_nouns
from qprompt_exporters.photos import calibration_pixels, parity_pixels
from qprompt_exporters.shared_int8 import shared_int8
from qprompt_exporters.static_int8 import to_static_int8
from qprompt_exporters.storage import Weights, WeightsFile
from qprompt_exporters.text_graph import text_gradient_graph, text_graph
from qprompt_exporters.token_merging import check_merged
from qprompt_exporters.tokenizer import PAD_TOKEN, tokenizer_json
from qprompt_exporters.towers import TextTower, read_image_transformer, read_text_tower
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.bundle import MANIFEST, file_record
from qprompt_runtime.errors import BundleError, OutputError
from qprompt_runtime.files import set_mode
from qprompt_runtime.manifest import (
    CLEANING,
    FORMAT_VERSION,
    POOLING,
    DeepPrompts,
    Graph,
    Manifest,
    TextLayout,
)
from qprompt_runtime.processor import FLOAT


@dataclass(frozen=True)
class Precision:
    """How one precision stores each part.

    The parts are the image tower, the text tower, and the text tower's token table.
    """

    image: str
    text: str
    int8_table: bool


PRECISIONS = {
    "fp32": Precision("fp32", "fp32", int8_table=False),
    "fp16": Precision("fp16", "fp16", int8_table=True),
    # text in float16 differs less from float32 than its token table in int8 does
    "int8": Precision("int8", "fp16", int8_table=True),
}

_CONVERT: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "fp32": lambda graph: graph,
    "fp16": to_fp16_storage,
    "int8": to_int8,
}


def export_bundle(
    name: str,
    out: Path,
    *,
    pretrained: str | None = None,
    checkpoint: Path | None = None,
    precision: str = "fp32",
    deep_prompts: int = 0,
    merge_tokens: int = 0,
    parity_images: Path | None = None,
    quantize_with: Path | None = None,
    licence: str | None = None,
    progress: Callable[[str], None] = lambda _step: None,
) -> Manifest:
    """Export an open_clip model to a bundle.

    Args:
        name: open_clip's model name, or an embedded backbone's.
        out: The bundle's folder; must not exist, or be empty.
        pretrained: A pretrained tag; with neither tag nor checkpoint the weights are random.
        checkpoint: A local file of weights.
        precision: `fp32`, `fp16` or `int8`.
        deep_prompts: Blocks of each tower that take prompts of their own (MaPLe's depth J); 0: none.
        merge_tokens: Experimental: tokens that each block of a ViT image tower but the last merges; 0: none.
        parity_images: A folder of real photos for the parity check.
        quantize_with: A folder of real photos that fix the scales of an int8 image tower with convolutions;
            with another precision than `int8`, that tower is written beside the other, over its weights.
            Without `parity_images`, every third of them is for the parity check instead.
        licence: Licence of the weights, for the manifest; None takes what is known of the model.
        progress: Called with a phrase before each step.

    Returns:
        The manifest that was written, with the parity figures.

    Raises:
        BundleError: The model is not supported, cannot be loaded, or the result is too far from torch.
        OutputError: `out` is taken or cannot be written.
    """
    if precision not in PRECISIONS:
        raise BundleError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if deep_prompts and PRECISIONS[precision].image == "int8":
        raise BundleError(
            "an int8 image tower has no gradient for deep prompts; export it with --precision fp32 or fp16"
        )
    if deep_prompts and merge_tokens:
        raise BundleError("deep prompts need every token; leave --merge-tokens or --deep-prompts out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not an empty folder; choose another --out")
    progress(f"loading {name}")
    source = load_source(name, pretrained, checkpoint)
    tower = read_text_tower(source.model)
    check_depth(deep_prompts, source, tower)
    if merge_tokens:
        check_merged(merge_tokens, source.model, name)
        source = source.merging(merge_tokens)
    calibration, compared = None, None
    if quantize_with is not None:
        calibration, compared = calibration_pixels(quantize_with, source.transform)
    if parity_images is not None:
        compared = parity_pixels(parity_images, source.transform)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    try:
        manifest = _write(source, tower, precision, deep_prompts, calibration, staging, progress)
        manifest = replace(manifest, licence=licence or source.licence, accuracy=source.accuracy)
        progress("comparing with torch")
        opened = Backbone.load(staging, precision=FLOAT)
        measured = parity.measure(source, opened, compared)
        parity.check(measured, parity.bounds_of(precision, calibration is not None, merge_tokens))
        progress("encoding the nouns of 'none of these'")
        files = dict(sorted((manifest.files | write_nouns(opened)).items()))
        manifest = replace(manifest, parity=measured, files=files)
        (staging / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        set_mode(staging, 0o755)
        if out.exists():
            out.rmdir()
        staging.rename(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest


def check_depth(depth: int, source: SourceModel, tower: TextTower) -> None:
    """Refuse a depth that either tower does not have.

    Raises:
        BundleError: Says which tower, and how many blocks it has.
    """
    if not depth:
        return
    blocks = min(tower.layers, read_image_transformer(source.model).layers)
    if not 1 <= depth <= blocks:
        raise BundleError(
            f"--deep-prompts {depth} does not fit {source.name}, whose shorter tower has {blocks} blocks"
        )


def _write(
    source: SourceModel,
    tower: TextTower,
    precision: str,
    depth: int,
    calibration: Array | None,
    folder: Path,
    progress: Callable[[str], None],
) -> Manifest:
    """Write graphs, tokenizer and a manifest without parity figures into a folder."""
    stored = PRECISIONS[precision]
    progress("writing the text graph")
    table = ("token_embedding.weight",) if stored.int8_table else ()
    weights = Weights(tower.weights, half=stored.text == "fp16", int8_rows=table)
    text_file = WeightsFile(folder / "text.weights")
    start = source.tokenizer.sot_token_id
    text = _save(weights.build(*text_graph(tower, weights, start)), text_file, "text", stored.text)
    model = weights.build(*text_gradient_graph(tower, weights, start))
    gradient = _save(model, text_file, "text-gradient", stored.text)
    progress("writing the image graph")
    image_file = WeightsFile(folder / "image.weights")
    exact = image_graph(source.model, source.transform.size, source.merged_tokens)
    alone = stored.image == "int8" or source.merged_tokens  # so that no photo depends on the others of a run
    if calibration is not None:
        progress(f"fixing int8 scales with {len(calibration)} photos")
    image, fast = _write_image(exact, stored.image, calibration, image_file, 1 if alone else 0)
    deep = None
    if depth:
        progress("writing the deep graphs")
        deep = _write_deep(source, tower, weights, stored, depth, text_file, image_file)
    (folder / "tokenizer.json").write_text(tokenizer_json(source.tokenizer), encoding="utf-8")
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=source.name,
        pretrained=source.pretrained,
        random_weights=not source.pretrained,
        licence="unknown",
        fingerprint=source.fingerprint(),
        embed_dim=tower.embed_dim,
        logit_scale=source.logit_scale,
        image_transform=source.transform,
        text=TextLayout(
            width=tower.width,
            layers=tower.layers,
            context_length=tower.context_length,
            causal=tower.causal,
            cleaning=CLEANING,
            start_token=source.tokenizer.sot_token_id,
            end_token=source.tokenizer.eot_token_id,
            pad_token=PAD_TOKEN,
            pooling=POOLING,
        ),
        image_graph=image,
        int8_image_graph=fast,
        text_graph=text,
        text_gradient_graph=gradient,
        deep=deep,
        files={path.name: file_record(path) for path in files},
        parity={},
        accuracy={},
        tool_version=version("qprompt-edge"),
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _write_image(
    exact: onnx.ModelProto, precision: str, calibration: Array | None, file: WeightsFile, max_batch: int
) -> tuple[Graph, Graph | None]:
    """Write the image graph, and in int8 beside it if there are photos for its scales."""
    if calibration is None:
        return _save(_CONVERT[precision](exact), file, "image", precision, max_batch), None
    if precision == "int8":
        return _save(to_static_int8(exact, calibration), file, "image", precision, max_batch), None
    image = _save(_CONVERT[precision](exact), file, "image", precision, max_batch)
    fast = shared_int8(exact, calibration, precision)
    return image, _save(fast, file, "image-int8", "int8", max_batch=1, extend=False)


def _write_deep(
    source: SourceModel,
    tower: TextTower,
    weights: Weights,
    stored: Precision,
    depth: int,
    text_file: WeightsFile,
    image_file: WeightsFile,
) -> DeepPrompts:
    """Write the graphs with deep prompts, over the arrays that both files hold already."""
    transformer = read_image_transformer(source.model)
    start = source.tokenizer.sot_token_id
    text = weights.build(*text_graph(tower, weights, start, depth))
    gradient = weights.build(*text_gradient_graph(tower, weights, start, depth))
    arrays = Weights(transformer.weights, half=stored.image == "fp16")
    stem = _CONVERT[stored.image](stem_graph(source.model, source.transform.size))
    image = arrays.build(*deep_image_graph(transformer, arrays, depth))
    return DeepPrompts(
        depth=depth,
        image_width=transformer.width,
        image_layers=transformer.layers,
        image_tokens=transformer.tokens,
        text_graph=_save(text, text_file, "text-deep", stored.text),
        text_gradient_graph=_save(gradient, text_file, "text-gradient-deep", stored.text),
        stem_graph=_save(stem, image_file, "image-stem", stored.image),
        image_graph=_save(image, image_file, "image-deep", stored.image),
    )


def _save(
    model: onnx.ModelProto,
    weights: WeightsFile,
    name: str,
    precision: str,
    max_batch: int = 0,
    extend: bool = True,
) -> Graph:
    """Write one graph, its large arrays into a file that it may share; what the manifest says of it."""
    described = {
        kind: {value.name: _shape(value) for value in getattr(model.graph, kind)}
        for kind in ("input", "output")
    }
    weights.save(model, weights.path.with_name(f"{name}.onnx"), extend)
    return Graph(f"{name}.onnx", precision, described["input"], described["output"], max_batch)


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_value or d.dim_param or "?" for d in value.type.tensor_type.shape.dim]
