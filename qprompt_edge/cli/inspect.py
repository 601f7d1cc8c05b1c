"""`qprompt-edge inspect`: what is in a prompt file or a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from qprompt_edge.cli.output import emit, reported, say, section, show
from qprompt_edge.cli.parameters import (
    INPUT,
    JsonOption,
    PolicyOption,
    TaskOption,
    TrustOption,
    argument,
    option,
)
from qprompt_runtime.bundle import MANIFEST, find_bundle, read_manifest, verify_hashes
from qprompt_runtime.cose_sign1 import SignedMessage, is_signed
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.policy import ENFORCE, OFF, WARN, Policy, in_force
from qprompt_runtime.processor import AUTO, chosen_graph
from qprompt_runtime.prompt_file import (
    ACCEPT_SHARES,
    CONTEXT,
    RESIDUAL,
    PromptFile,
    PromptGroup,
    prompt_in,
    read_content,
    rule_text,
)
from qprompt_runtime.text import counted, percent
from qprompt_runtime.trust_checks import shown_time

PROMPT_SUFFIX = ".qpt"
_SHOWN_CLASSES = 40
_SHOWN_VALUES = 4


@reported
def command(
    file: Annotated[Path, argument("FILE", "A prompt file, or a bundle's folder or name.")],
    verify: Annotated[bool, option(INPUT, "Check every byte of a bundle.", "--verify")] = False,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
) -> None:
    """Show what is in a prompt file, who signed it, or what is in a backbone bundle.

    Example: qprompt-edge inspect belt.qpt
    """
    if file.suffix == PROMPT_SUFFIX or (file.is_file() and file.name != MANIFEST):
        if verify:
            raise PromptFileError("--verify is for bundles; a prompt file is verified whenever it is read")
        asked = Policy.of(policy, trust, task)
        data = read_content(file)
        prompt = prompt_in(data, file, asked)
        signed = SignedMessage.from_bytes(data) if is_signed(data) else None
        checked = in_force().tightened(asked).level
        described = describe_prompt(prompt) | {
            "signed": None if signed is None else describe_signature(signed, len(data), checked)
        }
        _show_prompt(file, prompt, aside=as_json)
        if signed is not None:
            _show_signature(signed, len(data), checked, aside=as_json)
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
    contexts = "per-class" if prompt.method == CONTEXT and len(group.shape) == 3 else "shared"
    return {
        "format_version": prompt.format_version,
        "method": prompt.method,
        "bits": group.bits,
        "contexts": "none" if prompt.method == RESIDUAL else contexts,
        "context_length": 0 if prompt.method == RESIDUAL else group.shape[-2],
        "width": group.shape[-1],
        "groups": [
            {
                "role": group.role,
                "shape": list(group.shape),
                "bits": group.bits,
                "scales": list(group.scales),
                "rows": list(group.rows),
            }
            for group in prompt.groups
        ],
        "weights": sum(group.size for group in prompt.groups),
        "payload_bytes": prompt.payload_bytes,
        "file_bytes": len(prompt.to_bytes()),
        "classes": [{"label": name.label, "text": name.text} for name in prompt.classes],
        "template": list(prompt.template),
        "backbone": {"name": prompt.backbone_name, "fingerprint": prompt.fingerprint.hex()},
        "codebook": list(group.codebook),
        "calibration": asdict(prompt.calibration) | {"accept_shares": list(ACCEPT_SHARES)},
        "metadata": dict(prompt.metadata),
        "photos": list(prompt.photos),
        "optional_keys": [{"key": key, "bytes": len(value)} for key, value in sorted(prompt.extras.items())],
    }


def describe_signature(signed: SignedMessage, size: int, checked: str) -> dict[str, Any]:
    """The signature of a prompt, as `--json` prints it; `checked` is the policy that it was read under."""
    return {
        "key_id": signed.key_id.hex(),
        **signed.claims.to_json(),
        "bytes": size,
        "policy": checked,
        "verified": True if checked == ENFORCE else None,
    }


def _show_signature(signed: SignedMessage, size: int, checked: str, *, aside: bool) -> None:
    claims = signed.claims
    verified = {
        ENFORCE: "genuine, by a key that is trusted here",
        WARN: "genuine, unless a warning says otherwise",
        OFF: "not checked; verify checks it",
    }
    section(
        "Who signed it",
        {
            "signature": verified[checked],
            "key": signed.key_id.hex(),
            "task": claims.task,
            "sequence": str(claims.sequence),
            "issued": shown_time(claims.issued),
            "expires": "never" if claims.expires is None else shown_time(claims.expires),
            "size": f"{size} bytes, {size - len(signed.payload or b'')} more than the prompt",
        },
        aside=aside,
    )


def describe_bundle(manifest: Manifest) -> dict[str, Any]:
    """A bundle's facts, as `--json` prints them."""
    return asdict(manifest) | {"bytes": sum(record.bytes for record in manifest.files.values())}


def _show_prompt(file: Path, prompt: PromptFile, *, aside: bool) -> None:
    """A prompt file as a page: what it tells apart, what was tuned, what it runs on."""
    count = len(prompt.classes)
    show(f"{file}: a prompt for {count} classes, {len(prompt.to_bytes())} bytes", aside=aside)
    section("What it tells apart", _classes(prompt), aside=aside)
    photos = [f"{prompt.classes[index].label} {count}" for index, count in enumerate(prompt.photos)]
    section(
        "What was tuned",
        {
            "method": prompt.method,
            "size": f"{sum(group.size for group in prompt.groups)} weights, "
            f"{prompt.payload_bytes} bytes of the file",
        }
        | {group.role: _group(group) for group in prompt.groups}
        | {"photos a class": _shortened(photos)},
        aside=aside,
    )
    section(
        "What it runs on",
        {
            "backbone": f"{prompt.backbone_name}, fingerprint {prompt.fingerprint.hex()}",
            "logit scale": f"{prompt.calibration.logit_scale:.6g}",
            "format": f"version {prompt.format_version}",
        },
        aside=aside,
    )
    scores, accept = prompt.calibration.accept_scores, prompt.calibration.accept
    if scores:
        pairs = [f"{share:.0%} {score:.4g}" for share, score in zip(ACCEPT_SHARES, scores, strict=True)]
        first, others = pairs[0].replace("%", "% of known photos score at least"), ", ".join(pairs[1:])
        ruled = "no photo is refused" if accept is None else f"{100 * accept:.4g}% of known photos pass"
        section(
            'How "none of these" is told',
            {"scores": f"{first}, {others}", "by default": ruled},
            aside=aside,
        )
    if prompt.metadata:
        section("Notes in the file", dict(prompt.metadata), aside=aside)
    if prompt.extras:
        kept = {f"key {key}": f"{len(value)} bytes" for key, value in sorted(prompt.extras.items())}
        section("What a later program wrote (changes no answer)", kept, aside=aside)


def _classes(prompt: PromptFile) -> dict[str, str]:
    """The classes, which of them were not tuned, and the sentence that they stand in."""
    names = [
        name.label if name.text == rule_text(name.label) else f"{name.label} ({name.text!r})"
        for name in prompt.classes
    ]
    tuned = set(prompt.groups[0].rows or range(len(names)))
    untuned = [name.label for index, name in enumerate(prompt.classes) if index not in tuned]
    before, after = prompt.template
    learned = "" if prompt.method == RESIDUAL else "[learned vectors]"
    return {
        "classes": _shortened(names),
        "by their names alone": _shortened(untuned),
        "sentence": " ".join(part for part in (learned, before.strip(), "[class]") if part) + after,
    }


def _group(group: PromptGroup) -> str:
    """A group's shape, bits, first values and scales in a line."""
    parts = [f"{' x '.join(map(str, group.shape))} at {counted(group.bits, 'bit')}"]
    if group.codebook:
        more = ["..."] if len(group.codebook) > _SHOWN_VALUES else []
        values = [f"{value:.4g}" for value in group.codebook[:_SHOWN_VALUES]]
        parts.append(f"values {', '.join(values + more)}")
    if group.scales:
        parts.append(f"times a scale a row, {min(group.scales):.4g} to {max(group.scales):.4g}")
    return ", ".join(parts)


def _shortened(names: list[str]) -> str:
    """The first of many names."""
    more = len(names) - _SHOWN_CLASSES
    return ", ".join(names[:_SHOWN_CLASSES] + ([f"and {more} more; --json lists all"] if more > 0 else []))


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
    merged = manifest.merged_tokens
    section(
        "What goes in and out",
        {
            "photos": f"{' x '.join(map(str, image.size))} pixels "
            f"({image.resize_mode}, {image.interpolation})",
            "text": f"at most {text.context_length} tokens, {text.width} wide, {text.layers} layers",
            "features": f"{manifest.embed_dim} numbers, logit scale {manifest.logit_scale:.6g}",
            "deep prompts": "none" if deep is None else f"in the first {deep.depth} blocks of both towers",
        }
        | ({"merged tokens": f"{merged} a block, experimental"} if merged else {}),
        aside=aside,
    )
    stored = {name: f"{record.bytes / 1e6:.2f} MB" for name, record in sorted(manifest.files.items())}
    precision = f"{manifest.image_graph.precision} images, {manifest.text_graph.precision} text"
    if manifest.int8_image_graph is not None:
        runs = chosen_graph(manifest, AUTO, "CPU").precision
        precision += f"; int8 images as well. This processor runs {runs} images (QPE_PRECISION)"
    section("How it is stored", {"precision": precision} | stored, aside=aside)
    if manifest.accuracy:
        measured = {name: percent(value) for name, value in manifest.accuracy.items()}
        section("How well it recognises without a prompt of yours", measured, aside=aside)
    compared = {name: f"{value:.6g}" for name, value in manifest.parity.items()}
    section("How close it is to torch's model", compared, aside=aside)
