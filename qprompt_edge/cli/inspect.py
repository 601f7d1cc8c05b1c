"""`qprompt-edge inspect`: what is in a prompt file or a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from qprompt_edge.cli.output import emit, reported, say, section, show
from qprompt_edge.cli.parameters import INPUT, JsonOption, argument, option
from qprompt_runtime.bundle import MANIFEST, find_bundle, read_manifest, verify_hashes
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.prompt_file import CONTEXT, PromptFile, read_prompt_file, rule_text
from qprompt_runtime.text import counted, percent

PROMPT_SUFFIX = ".qpt"
_SHOWN_CLASSES = 40
_SHOWN_VALUES = 4


@reported
def command(
    file: Annotated[Path, argument("FILE", "A prompt file, or a bundle's folder or name.")],
    verify: Annotated[bool, option(INPUT, "Check every byte of a bundle.", "--verify")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is in a prompt file or a backbone bundle.

    Example: qprompt-edge inspect belt.qpt
    """
    if file.suffix == PROMPT_SUFFIX or (file.is_file() and file.name != MANIFEST):
        if verify:
            raise PromptFileError("--verify is for bundles; a prompt file is verified whenever it is read")
        prompt = read_prompt_file(file)
        described = describe_prompt(prompt)
        _show_prompt(file, prompt, aside=as_json)
    else:
        folder = find_bundle(file.parent if file.name == MANIFEST else file)
        manifest = verify_hashes(folder) if verify else read_manifest(folder)
        described = describe_bundle(manifest) | ({"verified": True} if verify else {})
        _show_bundle(folder, manifest, aside=as_json)
    if verify:
        say("every file is as its manifest says")
    if as_json:
        emit(described)


def describe_prompt(prompt: PromptFile) -> dict[str, Any]:
    """A prompt file's contents, as `--json` prints them."""
    group = prompt.groups[0]
    return {
        "format_version": prompt.format_version,
        "method": prompt.method,
        "bits": group.bits,
        "contexts": "per-class" if prompt.method == CONTEXT and len(group.shape) == 3 else "shared",
        "context_length": group.shape[-2],
        "width": group.shape[-1],
        "groups": [
            {"role": group.role, "shape": list(group.shape), "bits": group.bits} for group in prompt.groups
        ],
        "weights": sum(group.size for group in prompt.groups),
        "payload_bytes": prompt.payload_bytes,
        "file_bytes": len(prompt.to_bytes()),
        "classes": [{"label": name.label, "text": name.text} for name in prompt.classes],
        "template": list(prompt.template),
        "backbone": {"name": prompt.backbone_name, "fingerprint": prompt.fingerprint.hex()},
        "codebook": list(group.codebook),
        "calibration": asdict(prompt.calibration),
        "metadata": dict(prompt.metadata),
    }


def describe_bundle(manifest: Manifest) -> dict[str, Any]:
    """A bundle's facts, as `--json` prints them."""
    return asdict(manifest) | {"bytes": sum(record.bytes for record in manifest.files.values())}


def _show_prompt(file: Path, prompt: PromptFile, *, aside: bool) -> None:
    """A prompt file as a page: what it tells apart, what was tuned, what it runs on."""
    count = len(prompt.classes)
    show(f"{file}: a prompt for {count} classes, {len(prompt.to_bytes())} bytes", aside=aside)
    names = [
        name.label if name.text == rule_text(name.label) else f"{name.label} ({name.text!r})"
        for name in prompt.classes[:_SHOWN_CLASSES]
    ]
    more = [f"and {count - _SHOWN_CLASSES} more; --json lists all"] if count > _SHOWN_CLASSES else []
    before, after = prompt.template
    section(
        "What it tells apart",
        {
            "classes": ", ".join([*names, *more]),
            "sentence": " ".join(part for part in (before, "[learned vectors]", "[class]") if part) + after,
        },
        aside=aside,
    )
    section(
        "What was tuned",
        {
            "method": prompt.method,
            "size": f"{sum(group.size for group in prompt.groups)} weights, "
            f"{prompt.payload_bytes} bytes of the file",
        }
        | {
            group.role: f"{' x '.join(map(str, group.shape))} at {counted(group.bits, 'bit')}"
            + (
                f", values {', '.join(f'{value:.4g}' for value in group.codebook[:_SHOWN_VALUES])}"
                if group.codebook
                else ""
            )
            + (", ..." if len(group.codebook) > _SHOWN_VALUES else "")
            for group in prompt.groups
        },
        aside=aside,
    )
    section(
        "What it runs on",
        {
            "backbone": f"{prompt.backbone_name}, fingerprint {prompt.fingerprint.hex()}",
            "logit scale": f"{prompt.calibration.logit_scale:.6g}",
        },
        aside=aside,
    )
    if prompt.metadata:
        section("Notes in the file", dict(prompt.metadata), aside=aside)


def _show_bundle(folder: Path, manifest: Manifest, *, aside: bool) -> None:
    """A bundle as a page: what it is, what goes in, how it is stored, what was measured."""
    size = sum(record.bytes for record in manifest.files.values())
    show(f"{folder}: the backbone {manifest.name}, {size / 1e6:.1f} MB", aside=aside)
    weights = "random: good for measuring speed only" if manifest.random_weights else manifest.pretrained
    section(
        "What it is",
        {
            "weights": weights,
            "licence": manifest.licence,
            "fingerprint": manifest.fingerprint,
            "written by": f"qprompt-edge {manifest.tool_version}, format version {manifest.format_version}",
        },
        aside=aside,
    )
    image, text, deep = manifest.image_transform, manifest.text, manifest.deep
    section(
        "What goes in and out",
        {
            "photos": f"{' x '.join(map(str, image.size))} pixels ({image.resize_mode}, {image.interpolation})",
            "text": f"at most {text.context_length} tokens, {text.width} wide, {text.layers} layers",
            "features": f"{manifest.embed_dim} numbers, logit scale {manifest.logit_scale:.6g}",
            "deep prompts": "none" if deep is None else f"in the first {deep.depth} blocks of both towers",
        },
        aside=aside,
    )
    stored = {name: f"{record.bytes / 1e6:.2f} MB" for name, record in sorted(manifest.files.items())}
    precision = f"{manifest.image_graph.precision} images, {manifest.text_graph.precision} text"
    section("How it is stored", {"precision": precision} | stored, aside=aside)
    if manifest.accuracy:
        measured = {name: percent(value) for name, value in manifest.accuracy.items()}
        section("How well it recognises without a prompt of yours", measured, aside=aside)
    compared = {name: f"{value:.6g}" for name, value in manifest.parity.items()}
    section("How close it is to torch's model", compared, aside=aside)
