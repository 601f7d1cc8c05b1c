"""`qprompt-edge export`: write a bundle, on a workstation."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from qprompt_edge.cli.output import emit, reported, say, table
from qprompt_edge.cli.parameters import json_option, number_option, path_option
from qprompt_runtime.bundle import read_manifest
from qprompt_runtime.errors import QPromptError

_GROUP = "qprompt_edge.exporters"


@click.command("export")
@click.option("--model", required=True, help="open_clip's model name, or tiny.")
@path_option("--out", "Folder to write the bundle to.", required=True)
@click.option("--pretrained", help="Pretrained tag; open_clip fetches it.")
@path_option("--checkpoint", "Local file of weights; nothing is then fetched.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    help="How weights are stored.",
)
@number_option(
    "--deep-prompts",
    int,
    "Blocks of each tower that shall take prompts (MaPLe's depth); 0: none.",
    0,
    default=0,
)
@path_option("--parity-images", "Folder of real photos for the comparison with torch.")
@click.option("--licence", help="Licence of the weights, for the manifest.")
@json_option
@reported
def command(
    model: str,
    out: Path,
    pretrained: str | None,
    checkpoint: Path | None,
    precision: str,
    deep_prompts: int,
    parity_images: Path | None,
    licence: str | None,
    as_json: bool,
) -> None:
    """Export an open_clip model to a backbone bundle. Needs pip install 'qprompt-edge[export]'.

    Example: qprompt-edge export --model ViT-B-16 --pretrained openai --out ./ViT-B-16
    """
    if not pretrained and not checkpoint and model != "tiny":
        say("warning: neither --pretrained nor --checkpoint: the weights are random and recognise nothing")
    manifest = _exporter()(
        model,
        out,
        pretrained=pretrained,
        checkpoint=checkpoint,
        precision=precision,
        deep_prompts=deep_prompts,
        parity_images=parity_images,
        licence=licence,
        progress=say,
    )
    size = sum(record.bytes for record in read_manifest(out).files.values())
    table(
        f"Parity with torch ({'real photos' if manifest.parity['image_real'] else 'noise'})",
        {"": "left", " ": "right"},
        [[name, f"{value:.6g}"] for name, value in manifest.parity.items()],
    )
    say(f"wrote {out}: {size / 1e6:.1f} MB, {precision}; add it with `qprompt-edge backbones add {out}`")
    if as_json:
        emit(
            {
                "bundle": str(out),
                "bytes": size,
                "fingerprint": manifest.fingerprint,
                "parity": manifest.parity,
            }
        )


def _exporter() -> Any:
    """The exporters' entry point; they are installed apart, because they need torch.

    Raises:
        QPromptError: They, or what they need, are not installed.
    """
    try:
        (found,) = entry_points(group=_GROUP)
        return found.load()
    except (ImportError, ValueError) as error:
        raise QPromptError(
            f"exporting needs torch and open_clip, which are not installed here ({error}); "
            "run pip install 'qprompt-edge[export]' on a workstation"
        ) from error
