"""`manifest.json`: everything about a backbone bundle that is not a weight.

The fields are written down in `docs/bundle.md`. The reader checks every type, so that a damaged or foreign
manifest is one clear error and never a surprise later.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from qprompt_runtime.errors import BundleError
from qprompt_runtime.images import ImageTransform

FORMAT_VERSION = 5
_ONE_IMAGE_GRAPH = 4  # the version before: no image graph in int8 beside the other
_WITHOUT_STEM = 3  # and before: deep image graphs had their stem inside
FINGERPRINT_BYTES = 16
MERGED_TOKENS = "merged_tokens"
"""The entry of `Manifest.parity` that says how many tokens a block of the image tower merges."""

CLEANING, POOLING = "lower", "end_token"
"""How text is cleaned, and which row becomes its feature: what `TextLayout` may say."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class TextLayout:
    """How class names become token rows.

    Attributes:
        width: Width D of a context vector.
        layers: Blocks of the text tower; with the width they say what a training step holds in memory.
        context_length: Most tokens in a prompt, start and end token included.
        causal: Whether padding behind the end token is invisible, so that rows may be cut there.
        cleaning: open_clip's cleaning mode; always `lower`, which is what `tokenizer.clean` does.
        start_token: Id that opens a prompt.
        end_token: Id that closes a prompt; its row is the class's feature.
        pad_token: Id that fills the rest.
        pooling: Which row becomes the feature; always `end_token`.

    Raises:
        BundleError: Another cleaning or pooling, which this version does not do.
    """

    width: int
    layers: int
    context_length: int
    causal: bool
    cleaning: str
    start_token: int
    end_token: int
    pad_token: int
    pooling: str

    def __post_init__(self) -> None:
        for name, known in (("cleaning", CLEANING), ("pooling", POOLING)):
            if (found := getattr(self, name)) != known:
                raise BundleError(
                    f"text layout: {name} is {found!r:.80}, this version supports {known!r} only; update "
                    "qprompt-edge"
                )


@dataclass(frozen=True)
class Graph:
    """One ONNX graph of a bundle.

    Attributes:
        file: Its name in the bundle.
        precision: `fp32`, `fp16` (stored so, computed in float32) or `int8`.
        inputs: Names to shapes; a dimension is a number or the name of a free one.
        outputs: As the inputs.
        max_batch: Most images in one run, 0 for any number. A ViT's int8 graph scales activations over the
            whole run, and where tokens are merged, the last bit decides between two that are equally alike.
            So theirs is 1, as for all int8 graphs: an image's features must not depend on its neighbours.
    """

    file: str
    precision: str
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    max_batch: int


@dataclass(frozen=True)
class DeepPrompts:
    """Graphs that take prompts in the towers' first blocks (MaPLe); they share the weights of the others.

    Attributes:
        depth: Blocks of each tower that take prompts, J; the first are the towers' inputs.
        image_width: Width of an image prompt.
        image_layers: Blocks of the image tower.
        image_tokens: Tokens of an image without prompts; the three say what a training step holds in memory.
        text_graph: The text tower.
        text_gradient_graph: The loss and its gradient at the text prompts.
        stem_graph: What stands before the image tower's blocks, and sees no prompt: `pixels` to `tokens`.
            None in a bundle of version 3, whose `image_graph` reads `pixels` itself.
        image_graph: The image tower's blocks, which read `tokens`, with their gradient.
    """

    depth: int
    image_width: int
    image_layers: int
    image_tokens: int
    text_graph: Graph
    text_gradient_graph: Graph
    stem_graph: Graph | None
    image_graph: Graph


@dataclass(frozen=True)
class FileRecord:
    """Size and content hash of one file of a bundle.

    Attributes:
        bytes: Size.
        sha256: Hexadecimal SHA-256 of the content.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The facts of one backbone.

    Attributes:
        format_version: Version of this layout, 5; an older manifest is read as one of this version.
        name: Model name, as open_clip or this project calls it.
        pretrained: Tag or file that the weights came from; empty for random weights.
        random_weights: Whether the weights are random: good for measuring speed, useless for recognition.
        licence: Licence of the weights, as far as known.
        fingerprint: Hexadecimal fingerprint of the source model (`docs/bundle.md`).
        embed_dim: Width E of image and class features.
        logit_scale: s in softmax(s * cos).
        image_transform: How a photo becomes pixels.
        text: How class names become token rows.
        image_graph: The image tower.
        int8_image_graph: The same tower in int8, if the bundle has both; `processor` says which one runs.
        text_graph: The text tower.
        text_gradient_graph: The loss and its gradient at the context vectors.
        deep: The graphs that take deep prompts, if the bundle has them.
        files: Every file but the manifest, by name.
        parity: What was measured against torch when the bundle was written, by name.
        accuracy: What was measured on real data, by name; empty if nothing was.
        tool_version: Version of qprompt-edge that wrote the bundle.
    """

    format_version: int
    name: str
    pretrained: str
    random_weights: bool
    licence: str
    fingerprint: str
    embed_dim: int
    logit_scale: float
    image_transform: ImageTransform
    text: TextLayout
    image_graph: Graph
    int8_image_graph: Graph | None
    text_graph: Graph
    text_gradient_graph: Graph
    deep: DeepPrompts | None
    files: dict[str, FileRecord]
    parity: dict[str, float]
    accuracy: dict[str, float]
    tool_version: str

    @property
    def merged_tokens(self) -> int:
        """Tokens that each block of the image tower but the last merges; 0: none."""
        return int(self.parity.get(MERGED_TOKENS, 0))

    @property
    def graphs(self) -> list[Graph]:
        """Every graph that the bundle has."""
        found = [self.image_graph, self.text_graph, self.text_gradient_graph]
        found += [self.int8_image_graph] if self.int8_image_graph is not None else []
        if self.deep is not None:
            found += [self.deep.text_graph, self.deep.text_gradient_graph, self.deep.image_graph]
            found += [self.deep.stem_graph] if self.deep.stem_graph is not None else []
        return found

    def to_json(self) -> str:
        """The manifest as indented JSON text."""
        return json.dumps(asdict(self), indent=2, sort_keys=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Read a manifest.

        Raises:
            BundleError: Not JSON, of another version, or a field is missing, unknown or of the wrong type.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the manifest is not JSON: {error}") from error
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if version not in (_WITHOUT_STEM, _ONE_IMAGE_GRAPH, FORMAT_VERSION):
            raise BundleError(
                f"the manifest has format version {version!r}, this program reads {_WITHOUT_STEM} to "
                f"{FORMAT_VERSION}; export the backbone again, or update qprompt-edge"
            )
        if version == _WITHOUT_STEM:
            raw = _with_stem_field(raw)
        if version != FORMAT_VERSION:
            raw = _with_int8_field(raw, version)
        manifest = _parse(Manifest, raw, "manifest")
        if len(manifest.fingerprint) != 2 * FINGERPRINT_BYTES or not _is_hex(manifest.fingerprint):
            raise BundleError(
                f"the manifest's fingerprint is {manifest.fingerprint!r}, expected 32 hexadecimal digits"
            )
        return manifest


def _with_stem_field(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields of a manifest of version 3 as those of version 4.

    Its deep image graph, if it has one, has no stem before it.
    """
    upgraded, deep = dict(raw), raw.get("deep")
    if isinstance(deep, dict):
        if "stem_graph" in deep:
            raise BundleError(
                f"manifest.deep has a 'stem_graph', which format version {_WITHOUT_STEM} does not have; "
                "export the backbone again"
            )
        upgraded["deep"] = {**deep, "stem_graph": None}
    return upgraded


def _with_int8_field(raw: dict[str, Any], version: int) -> dict[str, Any]:
    """A manifest of version 3 or 4 as one of version 5: it has one image graph."""
    if "int8_image_graph" in raw:
        raise BundleError(
            f"the manifest has an 'int8_image_graph', which format version {version} does not have; export "
            "the backbone again"
        )
    return {**raw, "format_version": FORMAT_VERSION, "int8_image_graph": None}


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)


def _parse(kind: type[_T], raw: Any, where: str) -> _T:
    """`raw` as a value of type `kind`, checked all the way down."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        if not isinstance(raw, dict):
            raise BundleError(f"{where} is {type(raw).__name__}, expected an object")
        hints = get_type_hints(kind)
        names = {field.name for field in fields(kind)}
        if set(raw) != names:
            missing, unknown = sorted(names - set(raw)), sorted(set(raw) - names)
            raise BundleError(f"{where} has the wrong fields: missing {missing}, unknown {unknown}")
        return kind(**{name: _parse(hints[name], raw[name], f"{where}.{name}") for name in names})
    if origin is dict and isinstance(raw, dict):
        return {key: _parse(arguments[1], value, f"{where}.{key}") for key, value in raw.items()}  # type: ignore[return-value]
    if origin is list and isinstance(raw, list):
        return [_parse(arguments[0], value, where) for value in raw]  # type: ignore[return-value]
    if origin is tuple and isinstance(raw, list) and len(raw) == len(arguments):
        return tuple(_parse(a, v, where) for a, v in zip(arguments, raw, strict=True))  # type: ignore[return-value]
    if origin is UnionType and type(None) in arguments:
        known = next(argument for argument in arguments if argument is not type(None))
        return None if raw is None else _parse(known, raw, where)  # type: ignore[return-value]
    if kind is float and type(raw) in (int, float) and abs(raw) <= sys.float_info.max:  # a finite one
        return float(raw)  # type: ignore[return-value]
    plain = arguments if origin not in (dict, list, tuple) and arguments else (kind,)
    if kind is not float and type(raw) in plain:
        return raw  # type: ignore[no-any-return]
    raise BundleError(f"{where} is {raw!r:.80}, expected {getattr(kind, '__name__', kind)}")
