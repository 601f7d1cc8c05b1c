"""`qprompt-edge inspect`: what is in a prompt file or a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from qprompt_edge.cli.output import emit, reported, say, table
from qprompt_edge.cli.parameters import PATH, json_option
from qprompt_runtime.bundle import MANIFEST, find_bundle, read_manifest, verify_hashes
from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.prompt_envelope import FORMAT_VERSION
from qprompt_runtime.prompt_file import CONTEXT, PromptFile, read_prompt_file

PROMPT_SUFFIX = ".qpt"


@click.command("inspect")
@click.argument("file", type=PATH)
@click.option("--verify", is_flag=True, help="Check every byte of a bundle.")
@json_option
@reported
def command(file: Path, verify: bool, as_json: bool) -> None:
    """Show what is in a prompt file or a backbone bundle.

    FILE is a prompt file, or a bundle's folder or name.

    Example: qprompt-edge inspect belt.qpt
    """
    if file.suffix == PROMPT_SUFFIX or (file.is_file() and file.name != MANIFEST):
        if verify:
            raise PromptFileError("--verify is for bundles; a prompt file is verified whenever it is read")
        described = describe_prompt(read_prompt_file(file))
    else:
        folder = find_bundle(file.parent if file.name == MANIFEST else file)
        manifest = verify_hashes(folder) if verify else read_manifest(folder)
        described = describe_bundle(manifest) | ({"verified": True} if verify else {})
    table(str(file), {"": "left", " ": "left"}, [[key, _cell(value)] for key, value in described.items()])
    if verify:
        say("every file is as its manifest says")
    if as_json:
        emit(described)


def describe_prompt(prompt: PromptFile) -> dict[str, Any]:
    """A prompt file's contents, as `--json` prints them."""
    group = prompt.groups[0]
    return {
        "format_version": FORMAT_VERSION,
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


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(
            _cell(item.get("label") or item.get("role") if isinstance(item, dict) else item) for item in value
        )
    return f"{value:.6g}" if isinstance(value, float) else str(value)
