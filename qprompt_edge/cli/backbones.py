"""`qprompt-edge backbones`: what is installed, and how to add one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qprompt_edge.cli.output import emit, reported, say, section, table
from qprompt_edge.cli.parameters import (
    OUTPUT,
    GroupedCommand,
    JsonOption,
    PolicyOption,
    TrustOption,
    argument,
    option,
)
from qprompt_runtime.bundle import add_bundle, installed_bundles, read_manifest
from qprompt_runtime.errors import BundleError
from qprompt_runtime.manifest import Manifest
from qprompt_runtime.policy import Policy
from qprompt_runtime.text import percent

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@reported
def command(
    context: typer.Context,
    details: Annotated[
        bool, option(OUTPUT, "Show all that is known of each, with its zero-shot accuracy.", "--details")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the installed backbones, or add one.

    Added backbones stand in the folder that QPE_BACKBONES names; by default it is in your data home.

    Example: qprompt-edge backbones, or qprompt-edge backbones add ViT-B-16.zip
    """
    if context.invoked_subcommand is not None:
        return
    found: list[dict[str, Any]] = []
    for folder in installed_bundles():
        try:
            found.append(_describe(folder, read_manifest(folder)))
        except BundleError as error:
            found.append({"name": folder.name, "path": str(folder), "error": str(error)})
    rows = [[entry["name"], _size(entry), entry.get("error") or entry["licence"]] for entry in found]
    table("Installed backbones", {"name": "left", "size": "right", "licence": "left"}, rows, aside=as_json)
    if details:
        for entry in found:
            section(entry["name"], _facts(entry), aside=as_json)
    if as_json:
        emit({"backbones": found})


def _size(entry: dict[str, Any]) -> str:
    return f"{entry['bytes'] / 1e6:.1f} MB" if "bytes" in entry else ""


def _facts(entry: dict[str, Any]) -> dict[str, str]:
    """What is known of a backbone, for people."""
    if "error" in entry:
        return {"folder": entry["path"], "error": entry["error"]}
    shown = [f"{name} {percent(value)}" for name, value in entry["accuracy"].items()]
    return {
        "folder": entry["path"],
        "model": entry["model"],
        "pretrained": entry["pretrained"],
        "size": _size(entry),
        "input": " x ".join(map(str, entry["input_size"])),
        "precision": entry["precision"],
        "licence": entry["licence"],
        "fingerprint": entry["fingerprint"],
        "zero-shot accuracy": ", ".join(shown),
    }


def _describe(folder: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "name": folder.name,
        "path": str(folder),
        "model": manifest.name + (" (random weights)" if manifest.random_weights else ""),
        "pretrained": manifest.pretrained,
        "bytes": sum(record.bytes for record in manifest.files.values()),
        "input_size": list(manifest.image_transform.size),
        "precision": manifest.image_graph.precision + (", int8" if manifest.int8_image_graph else ""),
        "licence": manifest.licence,
        "fingerprint": manifest.fingerprint,
        "accuracy": manifest.accuracy,
    }


@app.command("add", cls=GroupedCommand)
@reported
def add(
    file: Annotated[Path, argument("FILE", "The bundle's folder, or one .zip file of it.")],
    name: Annotated[
        str | None, option(OUTPUT, "Name to install it under; by default the file's.", metavar="NAME")
    ] = None,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
) -> None:
    """Verify a bundle and install it.

    Afterwards the backbone is found by its name. It is copied to the folder that QPE_BACKBONES names. A
    signature stands beside its manifest, as manifest.json.sig.

    Example: qprompt-edge backbones add ViT-B-16.zip
    """
    folder = add_bundle(file, name, Policy.of(policy, trust))
    say(f"added {folder.name} in {folder.parent}; use it with --backbone {folder.name}")
    if as_json:
        emit({"name": folder.name, "path": str(folder)})
