"""`qprompt-edge update`: a class more, a class less, more photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qprompt_edge.adaptation.update import update
from qprompt_edge.adaptation.update_result import UpdateResult, facts, findings, notes
from qprompt_edge.cli.output import emit, progress_reporter, reported, say, show
from qprompt_edge.cli.parameters import (
    INPUT,
    OUTPUT,
    ForceOption,
    JsonOption,
    KeyOption,
    LabelsOption,
    MadeForOption,
    MaxMemoryOption,
    OwnBackboneOption,
    PolicyOption,
    ProviderOption,
    ThreadsOption,
    TrustOption,
    argument,
    option,
)
from qprompt_edge.cli.replacing import check_replaceable
from qprompt_edge.cli.sealing import seal_for
from qprompt_edge.cli.streams import beside_a_file
from qprompt_runtime.cose_sign1 import claims_in
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import check_writable
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import prompt_in, read_content, read_prompt_file


@reported
def command(
    prompt: Annotated[Path, argument("PROMPT", "Prompt file to update; adapt's default method makes one.")],
    images: Annotated[
        Path | None,
        option(
            INPUT,
            "Folder with one sub-folder of new photos per class: a new class, or more photos of an old one.",
            metavar="FOLDER",
        ),
    ] = None,
    remove: Annotated[
        list[str] | None, option(INPUT, "Class to take out; may be given several times.", metavar="LABEL")
    ] = None,
    labels: LabelsOption = None,
    class_names: Annotated[
        Path | None, option(INPUT, "CSV file with the columns label,text: words for labels.", metavar="FILE")
    ] = None,
    backbone: OwnBackboneOption = None,
    out: Annotated[
        Path | None,
        option(OUTPUT, "Prompt file to write; by default PROMPT is replaced.", "--out", "-o", metavar="FILE"),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    key: KeyOption = None,
    task: MadeForOption = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Add or remove classes of a prompt, or add photos.

    The photos that the prompt was tuned on are not needed. If the cache still has their features, the prompt
    is tuned anew on all photos. Otherwise only the classes with new photos are tuned, and the others keep
    their bits.

    Example: qprompt-edge update belt.qpt --images ./new-photos
    """
    removed = tuple(remove or ())
    if images is None and not removed:
        raise typer.BadParameter("nothing to do: give --images FOLDER, or --remove LABEL")
    if images is None and (labels is not None or class_names is not None):
        raise typer.BadParameter("--labels and --class-names are for photos; give --images FOLDER too")
    rules = Policy.of(policy, trust)
    content = read_content(prompt)
    before = prompt_in(content, prompt, rules)
    seal = seal_for(key, task, claims_in(content), rules)
    shown = prompt if out is None else out
    place = prompt.resolve() if shown.exists() and shown.samefile(prompt) else shown  # a link stays a link
    check_writable(place)
    with progress_reporter() as reporter:
        result = update(
            before,
            images,
            remove=removed,
            labels=labels,
            class_names=class_names,
            backbone=backbone,
            provider=provider,
            threads=threads,
            max_memory=max_memory,
            reporter=reporter,
        )
    if place == out and not force:
        check_replaceable(
            out,
            lambda: [name.label for name in result.prompt.classes],
            lambda path: read_prompt_file(path, rules),
        )
    result.save(place, seal)
    try:
        _show(result, shown, aside=beside_a_file(as_json))
        if as_json:
            emit(as_dict(result, shown))
    except OutputError as error:
        raise OutputError(f"{error}; the prompt is written to {shown}") from error


def _show(result: UpdateResult, out: Path, *, aside: bool) -> None:
    """The result as people read it: what `UpdateResult.summary` says, with messages apart from results."""
    for line in notes(result):
        say(line)
    for line in findings(result):
        show(line, aside=aside)
    say(f"wrote {out}: {facts(result)}")


def as_dict(result: UpdateResult, out: Path) -> dict[str, Any]:
    """The result as `--json` prints it."""
    prompt, cost = result.prompt, result.cost
    return {
        "prompt": str(out),
        "bytes": len(prompt.to_bytes()),
        "method": prompt.method,
        "bits": prompt.groups[0].bits,
        "classes": [name.label for name in prompt.classes],
        "added": [it.label for it in result.classes if it.new],
        "more_photos": [it.label for it in result.classes if not it.new],
        "removed": list(result.removed),
        "images": {
            "new": sum(it.photos for it in result.classes),
            "repeated": result.repeated,
            "train": sum(prompt.photos) if prompt.photos else None,
            "skipped": [{"path": str(skip.path), "reason": skip.reason} for skip in result.skipped],
            "in_several_classes": [photo.to_json() for photo in result.same],
        },
        "estimates": {
            it.label: {
                "photos": it.photos,
                "top1": it.right / it.judged if it.judged else None,
                "judged": it.judged,
                "taken_for": dict(it.taken_for),
            }
            for it in result.classes
        },
        "old_classes": None if cost is None else {"loss": cost.loss, "photos": cost.photos},
        "tuned_on": "all photos" if result.from_photos else "new photos" if result.classes else None,
        "calibration": result.calibration,
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "peak_rss_mb": round(result.peak_rss_mb, 1),
        "backbone": {"name": prompt.backbone_name, "fingerprint": prompt.fingerprint.hex()},
        "provider": result.provider,
    }
