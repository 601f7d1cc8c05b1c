"""`qprompt-edge merge`: one prompt from the prompts of many devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from qprompt_edge.cli.output import emit, progress_reporter, reported, say, show, table
from qprompt_edge.cli.parameters import (
    INPUT,
    OUTPUT,
    SIGNATURES,
    ForceOption,
    JsonOption,
    KeyOption,
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
from qprompt_edge.shipping.merge import merge_named, read_files
from qprompt_edge.shipping.merge_result import MergeResult, facts, findings
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import check_writable
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import read_prompt_file
from qprompt_runtime.text import percent, printable


@reported
def command(
    files: Annotated[list[Path], argument("FILE", "Prompt files to merge, two or more.")],
    out: Annotated[Path, option(OUTPUT, "Prompt file to write.", "--out", "-o", metavar="FILE")],
    holdout: Annotated[
        Path | None,
        option(
            INPUT,
            "Folder with one sub-folder per class of photos that no prompt was tuned on; a merged prompt that is worse on "
            "them than the best file is refused.",
            metavar="FOLDER",
        ),
    ] = None,
    backbone: OwnBackboneOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    key: KeyOption = None,
    task: Annotated[
        str | None,
        option(
            SIGNATURES,
            "Task that the prompt is signed for; by default that of the files, or the only one in the policy file.",
            "--task",
            metavar="NAME",
        ),
    ] = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Merge the prompts of several devices into one, without their photos.

    The files must have the same method, bits and backbone. Classes go by their labels; what only some files
    know is kept. Files count by their photos, but none can move the result far, and of three or more one that
    disagrees with the others is left out. Without --holdout, the merged prompt is written untried. With it, a
    prompt that is worse than the best of the files, beyond noise, is refused: exit code 6.

    Example: qprompt-edge merge a.qpt b.qpt c.qpt --out fleet.qpt --holdout ./known-photos
    """
    rules = Policy.of(policy, trust)
    prompts, newest = read_files(files, rules)
    seal = seal_for(key, task, newest, rules)
    check_writable(out)
    with progress_reporter() as reporter:
        result = merge_named(
            list(zip(map(printable, files), prompts, strict=True)),
            holdout=holdout,
            backbone=backbone,
            provider=provider,
            threads=threads,
            max_memory=max_memory,
            reporter=reporter,
        )
    if not force:
        check_replaceable(
            out,
            lambda: [name.label for name in result.prompt.classes],
            lambda path: read_prompt_file(path, rules),
        )
    result.save(out, seal)
    try:
        _show(result, out, aside=beside_a_file(as_json))
        if as_json:
            emit(as_dict(result, out))
    except OutputError as error:
        raise OutputError(f"{error}; the prompt is written to {out}") from error


def _show(result: MergeResult, out: Path, *, aside: bool) -> None:
    """The result as people read it."""
    rows = [
        [
            it.label,
            str(it.files),
            "-" if it.photos is None else str(it.photos),
            "merged" if it.files > 1 else "kept",
        ]
        for it in result.classes
    ]
    columns = {"class": "left", "files": "right", "photos": "right", "": "left"}
    table("Classes", columns, rows, aside=aside)
    if result.trial is not None:
        tried = [[it.name, "-" if it.top1 is None else percent(it.top1)] for it in result.files]
        tried.append(["merged", percent(result.trial.top1)])
        table("Right on the hold-out photos", {"file": "left", "top-1": "right"}, tried, aside=aside)
    for line in findings(result):
        show(line, aside=aside)
    say(f"wrote {out}: {facts(result)}")


def as_dict(result: MergeResult, out: Path) -> dict[str, Any]:
    """The result as `--json` prints it."""
    prompt, trial = result.prompt, result.trial
    return {
        "prompt": str(out),
        "bytes": len(prompt.to_bytes()),
        "method": prompt.method,
        "bits": prompt.groups[0].bits,
        "files": [vars(it) for it in result.files],
        "classes": [vars(it) for it in result.classes],
        "holdout": None
        if trial is None
        else {
            "photos": trial.photos,
            "merged": {"top1": trial.top1},
            "best": {"file": trial.best, "top1": trial.best_top1},
            "difference": trial.change.difference,
            "interval": trial.change.interval,
            "p": trial.change.p,
        },
        "calibration": "hold-out" if trial is not None and trial.calibrated else "pooled",
        "backbone": {"name": prompt.backbone_name, "fingerprint": prompt.fingerprint.hex()},
    }
