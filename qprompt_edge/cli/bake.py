"""`qprompt-edge bake`: a prompt and its image tower as one plain ONNX classifier."""

from __future__ import annotations

import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from qprompt_edge.cache import cache_folder
from qprompt_edge.cli.output import emit, reported, say, section
from qprompt_edge.cli.parameters import (
    OUTPUT,
    AcceptOption,
    ClassesOption,
    ForceOption,
    JsonOption,
    MaxMemoryOption,
    OwnBackboneOption,
    PolicyOption,
    ProviderOption,
    TaskOption,
    ThreadsOption,
    TrustOption,
    argument,
    names_in,
    option,
)
from qprompt_edge.cli.replacing import named
from qprompt_edge.cli.streams import beside_a_file
from qprompt_edge.memory import check_limit, fit_activations
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import OutputError, QPromptError
from qprompt_runtime.files import check_writable
from qprompt_runtime.policy import Policy
from qprompt_runtime.text import counted, printable

_GROUP = "qprompt_edge.bakers"


@reported
def command(
    prompt: Annotated[Path, argument("PROMPT", "Prompt file to bake.")],
    out: Annotated[
        Path | None,
        option(
            OUTPUT, "ONNX file to write; with --update, by default that file.", "--out", "-o", metavar="FILE"
        ),
    ] = None,
    backbone: OwnBackboneOption = None,
    classes: ClassesOption = None,
    accept: AcceptOption = None,
    pixels: Annotated[
        Literal["float32", "uint8"] | None,
        option(
            OUTPUT,
            "What the model takes: float32 is prepared pixels, the default; uint8 is photos of any size, which it "
            "resizes, crops and normalises itself.",
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        option(OUTPUT, "How the image tower's weights are stored; by default as in the bundle."),
    ] = None,
    update: Annotated[
        Path | None,
        option(
            OUTPUT, "Baked file whose classes are replaced; its image tower stays as it is.", metavar="FILE"
        ),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    task: TaskOption = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Write a prompt and its backbone's image tower as one ONNX classifier.

    Needs pip install 'qprompt-edge[bake]'. The file runs in any ONNX Runtime: Python, C, a browser. Its
    outputs are probabilities and, if the prompt or --accept asks for it, none_of_these. Labels and
    preprocessing are in its metadata. An existing file is replaced if it is a classifier for the same
    classes; otherwise give --force.

    Example: qprompt-edge bake belt.qpt --out belt.onnx --pixels uint8
    """
    target = _target(out, update, pixels, precision)
    names = None if classes is None else names_in(classes)
    baking, start = _baking(), time.perf_counter()
    check_writable(target)
    classifier = PromptClassifier.load(
        prompt,
        backbone,
        classes=names,
        provider=provider,
        threads=threads,
        cache=cache_folder("classes"),
        accept=accept,
        policy=Policy.of(policy, trust, task),
    )
    if not force and target != update:
        _check_replaceable(target, classifier.labels, baking.labels_of)
    fit_activations(classifier.backbone, max_memory, tuning=False)
    if update is None:
        done = baking.bake(classifier, target, pixels=pixels or "float32", precision=precision)
    else:
        done = baking.update(classifier, update, target)
    check_limit(max_memory, "baking")
    seconds = time.perf_counter() - start
    say(f"wrote {printable(target)}: {done.size / 1e6:.1f} MB in {seconds:.1f} s")
    section(f"{printable(prompt)}, baked", _facts(done), aside=beside_a_file(as_json))
    if as_json:
        emit(_described(done, target, classifier, seconds))


def _target(out: Path | None, update: Path | None, pixels: str | None, precision: str | None) -> Path:
    """The file to write; refuses options that contradict each other."""
    if update is not None and (pixels or precision):
        raise typer.BadParameter("--update keeps --pixels and --precision as they were; leave them out")
    target = out or update
    if target is None:
        raise typer.BadParameter("give --out FILE, or --update FILE")
    return target


def _check_replaceable(out: Path, labels: tuple[str, ...], labels_of: Any) -> None:
    """Refuse to write over a file that is not a baked classifier for the same classes.

    Raises:
        OutputError: Says what stands there.
    """
    if not out.is_file():
        return
    try:
        existing = labels_of(out)
    except QPromptError as error:
        raise OutputError(
            f"{printable(out)} exists and is no baked classifier ({error}); choose another --out, or replace it "
            "with --force"
        ) from error
    if set(existing) != set(labels):
        raise OutputError(
            f"{printable(out)} exists and is another task's classifier, for the classes {named(existing)}; "
            "choose another --out, or replace it with --force"
        )


def _facts(done: Any) -> dict[str, str]:
    """What was written, for people."""
    compared = "" if done.difference is None else f"{done.difference:.1e} at most, on a picture of noise"
    return {
        "takes": "photos, uint8 [N,H,W,3]"
        if done.pixels == "uint8"
        else "prepared pixels, float32 [N,3,S,S]",
        "gives": "probabilities, none_of_these" if done.none_of_these else "probabilities",
        "classes": counted(len(done.labels), "class", "classes"),
        "weights": done.precision,
        "head": f"{done.head_size / 1e3:.1f} kB, what --update replaces",
        "difference": compared,
    }


def _described(done: Any, target: Path, classifier: PromptClassifier, seconds: float) -> dict[str, Any]:
    """The result as `--json` prints it."""
    manifest = classifier.backbone.manifest
    return {
        "model": str(target),
        "bytes": done.size,
        "head_bytes": done.head_size,
        "pixels": done.pixels,
        "precision": done.precision,
        "classes": list(done.labels),
        "none_of_these": done.none_of_these,
        "difference": done.difference,
        "backbone": {"name": manifest.name, "fingerprint": manifest.fingerprint},
        "seconds": round(seconds, 2),
    }


def _baking() -> Any:
    """What bakes; it is found when it is needed, because it needs onnx.

    Raises:
        QPromptError: onnx is not installed.
    """
    try:
        (found,) = entry_points(group=_GROUP)
        return found.load()
    except (ImportError, ValueError) as error:
        raise QPromptError(
            f"baking needs onnx, which is not installed here ({error}); run pip install 'qprompt-edge[bake]'"
        ) from error
