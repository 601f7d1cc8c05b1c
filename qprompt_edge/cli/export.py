"""`qprompt-edge export`: write a bundle, on a workstation."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from qprompt_edge.cli.output import emit, reported, say, table
from qprompt_edge.cli.parameters import INPUT, OUTPUT, JsonOption, number, option
from qprompt_edge.cli.streams import beside_a_file
from qprompt_runtime.bundle import read_manifest
from qprompt_runtime.errors import QPromptError

_GROUP = "qprompt_edge.exporters"


@reported
def command(
    model: Annotated[
        str, option(INPUT, "open_clip's model name, or an embedded backbone's: small, tiny.", metavar="NAME")
    ],
    out: Annotated[Path, option(OUTPUT, "Folder to write the bundle to.", "--out", "-o", metavar="FOLDER")],
    pretrained: Annotated[
        str | None, option(INPUT, "Pretrained tag; open_clip downloads it.", metavar="NAME")
    ] = None,
    checkpoint: Annotated[
        Path | None, option(INPUT, "Local file of weights; nothing is downloaded.", metavar="FILE")
    ] = None,
    parity_images: Annotated[
        Path | None, option(INPUT, "Folder of real photos for the comparison with torch.", metavar="FOLDER")
    ] = None,
    quantize_with: Annotated[
        Path | None,
        option(
            INPUT,
            "Folder of real photos that fix the int8 scales of a convolutional tower. With fp32 or fp16, an int8 "
            "tower is added over the same weights.",
            metavar="FOLDER",
        ),
    ] = None,
    precision: Annotated[Literal["fp32", "fp16", "int8"], option(OUTPUT, "How weights are stored.")] = "fp32",
    deep_prompts: Annotated[
        int, number(OUTPUT, "Number of blocks of each tower that take prompts (MaPLe's depth).", 0)
    ] = 0,
    merge_tokens: Annotated[
        int,
        number(
            OUTPUT,
            "Experimental: number of tokens that each block of a ViT's image tower merges, for less work.",
            0,
        ),
    ] = 0,
    licence: Annotated[
        str | None, option(OUTPUT, "Licence of the weights, for the manifest.", metavar="NAME")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export an open_clip model to a backbone bundle. Needs pip install 'qprompt-edge[export]'.

    Example: qprompt-edge export --model ViT-B-16 --pretrained openai --out ./ViT-B-16
    """
    manifest = _exporter()(
        model,
        out,
        pretrained=pretrained,
        checkpoint=checkpoint,
        precision=precision,
        deep_prompts=deep_prompts,
        merge_tokens=merge_tokens,
        parity_images=parity_images,
        quantize_with=quantize_with,
        licence=licence,
        progress=say,
    )
    if manifest.random_weights:
        say("warning: neither --pretrained nor --checkpoint: the weights are random and recognise nothing")
    if merge_tokens:
        say(
            "warning: --merge-tokens is experimental: what it costs in accuracy depends on the model; compare "
            "`eval` with the model's unmerged bundle"
        )
    size = sum(record.bytes for record in read_manifest(out).files.values())
    say(f"wrote {out}: {size / 1e6:.1f} MB, {precision}; add it with `qprompt-edge backbones add {out}`")
    table(
        f"Parity with torch ({'real photos' if manifest.parity['image_real'] else 'noise'})",
        {"": "left", " ": "right"},
        [[name, f"{value:.6g}"] for name, value in manifest.parity.items()],
        aside=beside_a_file(as_json),
    )
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
