"""`qprompt-edge convert`: prompts from checkpoints of CoOp and MaPLe, and prompts as safetensors and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from qprompt_edge.cli.output import emit, reported, say, table
from qprompt_edge.cli.parameters import (
    INPUT,
    OUTPUT,
    Bits,
    ForceOption,
    JsonOption,
    OwnBackboneOption,
    PolicyOption,
    TaskOption,
    TrustOption,
    argument,
    bits_of,
    option,
)
from qprompt_edge.cli.replacing import check_replaceable
from qprompt_edge.cli.streams import beside_a_file
from qprompt_edge.convert.convert import Additions, convert, kind_of
from qprompt_edge.convert.safetensors import to_safetensors
from qprompt_edge.data.csv_files import class_label, composed, read_class_names, read_table
from qprompt_runtime.errors import OutputError, PhotosError
from qprompt_runtime.files import check_writable, write_atomic
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import PromptFile
from qprompt_runtime.text import printable

PROMPT_SUFFIX, SAFETENSORS_SUFFIX = ".qpt", ".safetensors"


@reported
def command(
    source: Annotated[Path, argument("SOURCE", "The checkpoint, the prompt file, or the safetensors file.")],
    out: Annotated[
        Path,
        option(
            OUTPUT, "File to write; its name ends in .qpt or .safetensors.", "--out", "-o", metavar="FILE"
        ),
    ],
    backbone: OwnBackboneOption = None,
    class_names: Annotated[
        Path | None,
        option(
            INPUT,
            "CSV file with the columns label,text: the classes, or words for those of --classes.",
            metavar="FILE",
        ),
    ] = None,
    classes: Annotated[
        str | None, option(INPUT, "Class names in the order of the training, as a,b,c.", metavar="LIST")
    ] = None,
    bits: Annotated[
        Bits | None,
        option(
            OUTPUT, "Bits per weight; by default those of the prompt, 1 for CoOp, 4 for MaPLe, 8 for a head."
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
) -> None:
    """Turn a checkpoint of CoOp or MaPLe into a prompt file.

    It also turns a linear classifier into a prompt file (safetensors with the tensors weight and bias), and a
    prompt file into safetensors and back. If classes or bits are changed, the scores for "none of these" are
    left out, because they were measured without that change. An existing file is replaced if it holds a
    prompt for the same classes; otherwise give --force.

    Example: qprompt-edge convert model.pth.tar-50 --out pets.qpt --backbone ViT-B-16 --classes cat,dog
    """
    if out.suffix not in (PROMPT_SUFFIX, SAFETENSORS_SUFFIX):
        raise OutputError(
            f"--out {out}: expected a name that ends in {PROMPT_SUFFIX} or {SAFETENSORS_SUFFIX}"
        )
    check_writable(out)
    additions = Additions(
        backbone=backbone,
        classes=read_classes(classes, class_names),
        bits=bits_of(bits),
        policy=Policy.of(policy, trust, task),
    )
    kind = kind_of(source)
    prompt = convert(source, additions)
    if not force:
        labels = [name.label for name in prompt.classes]
        check_replaceable(
            out, lambda: labels, lambda path: convert(path, Additions(policy=Policy.of(policy, trust)))
        )
    content = to_safetensors(prompt) if out.suffix == SAFETENSORS_SUFFIX else prompt.to_bytes()
    write_atomic(out, content)
    say(
        f"wrote {printable(out)}: {len(content)} bytes, {len(prompt.classes)} classes, for backbone "
        f"{printable(prompt.backbone_name)}"
    )
    described = describe(prompt, kind, out, len(content))
    rows = [
        [group["role"], "x".join(map(str, group["shape"])), str(group["bits"])]
        for group in described["groups"]
    ]
    table(
        f"{kind} {source}: {prompt.method}",
        {"weights": "left", "shape": "right", "bits": "right"},
        rows,
        aside=beside_a_file(as_json),
    )
    if as_json:
        emit(described)


def describe(prompt: PromptFile, kind: str, out: Path, size: int) -> dict[str, Any]:
    """The result as `--json` prints it."""
    return {
        "source": kind,
        "out": str(out),
        "bytes": size,
        "method": prompt.method,
        "bits": prompt.groups[0].bits,
        "groups": [
            {"role": group.role, "shape": list(group.shape), "bits": group.bits} for group in prompt.groups
        ],
        "classes": [name.label for name in prompt.classes],
        "template": list(prompt.template),
        "backbone": {"name": prompt.backbone_name, "fingerprint": prompt.fingerprint.hex()},
    }


def read_classes(classes: str | None, class_names: Path | None) -> dict[str, str | None] | None:
    """Labels with their texts (None: as the rule gives), in order; None if nothing was said about classes.

    Raises:
        PhotosError: A name is empty or given twice, or the file cannot be read.
    """
    if classes is None:
        if class_names is None:
            return None
        rows = [
            (class_label(label, f"{class_names}, line {line}"), composed(text))
            for line, (label, text) in read_table(class_names, ("label", "text"))
        ]
        labels = [label for label, _ in rows]
        texts = dict(rows)
    else:
        labels = [class_label(name.strip(), "--classes") for name in classes.split(",")]
        texts = read_class_names(class_names, labels) if class_names is not None else {}
    if not labels or not all(labels) or len(set(labels)) < len(labels):
        given = f"--classes {classes!r}" if classes is not None else printable(str(class_names))
        raise PhotosError(f"{given}: expected one name or more, none of them empty or given twice")
    return {label: texts.get(label) for label in labels}
