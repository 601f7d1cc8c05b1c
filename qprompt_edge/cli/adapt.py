"""`qprompt-edge adapt`: tune a prompt on labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from qprompt_edge.adaptation.adapt import adapt
from qprompt_edge.adaptation.options import MOST_HELD_OUT, SHARED
from qprompt_edge.adaptation.result import AdaptResult, facts, notes, score_lines, verdict
from qprompt_edge.cli.output import emit, progress_reporter, reported, say, show
from qprompt_edge.cli.parameters import (
    INPUT,
    LEAST_ACCEPT,
    MACHINE,
    MOST_ACCEPT,
    OUTPUT,
    TRAINING,
    BackboneOption,
    Bits,
    ForceOption,
    JsonOption,
    KeyOption,
    LabelsOption,
    MadeForOption,
    MaxMemoryOption,
    PolicyOption,
    ProviderOption,
    ReportOption,
    ThreadsOption,
    TrustOption,
    argument,
    bits_of,
    number,
    option,
)
from qprompt_edge.cli.replacing import check_replaceable
from qprompt_edge.cli.reports import check_report, write_report
from qprompt_edge.cli.sealing import seal_for
from qprompt_edge.cli.streams import beside_a_file
from qprompt_edge.data.photos import find_labelled
from qprompt_edge.reporter import Reporter
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_runtime.bundle import DEFAULT_BACKBONE
from qprompt_runtime.errors import OutputError, QPromptError
from qprompt_runtime.files import check_writable
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import read_prompt_file

Method = Literal["qtaskres", "qcoop", "qmaple", "qmaple-coupled"]
"""As `tuning.methods.METHODS`."""
Contexts = Literal["shared", "per-class"]
"""As `options.CONTEXTS`."""


@reported
def command(
    photos: Annotated[
        Path | None, argument("PHOTOS", "Folder with one sub-folder of photos per class.")
    ] = None,
    images: Annotated[Path | None, option(INPUT, "The same folder, as an option.", metavar="FOLDER")] = None,
    labels: LabelsOption = None,
    test_images: Annotated[
        Path | None,
        option(
            INPUT,
            "Photos to test on, in sub-folders like those of PHOTOS; no photos are held out then.",
            metavar="FOLDER",
        ),
    ] = None,
    class_names: Annotated[
        Path | None, option(INPUT, "CSV file with the columns label,text: words for labels.", metavar="FILE")
    ] = None,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    method: Annotated[
        Method | None,
        option(TRAINING, "What is tuned; by default qtaskres, or qcoop with --contexts per-class."),
    ] = None,
    bits: Annotated[
        Bits | None,
        option(
            TRAINING,
            "Bits per weight; 1.6 means three values, 32 no quantizer. By default 1.6 for qtaskres, 1 for the "
            "others.",
        ),
    ] = None,
    contexts: Annotated[
        Contexts, option(TRAINING, "One context for all classes, or one for each.")
    ] = "shared",
    context_init: Annotated[
        str, option(TRAINING, "Words that the context vectors start from.", metavar="TEXT")
    ] = CONTEXT_INIT,
    shots: Annotated[
        int | None, number(TRAINING, "Photos of each class to train on; all by default.", 1)
    ] = None,
    holdout: Annotated[
        float,
        number(TRAINING, "Share of each class's photos to hold out for the verdict.", 0, max=MOST_HELD_OUT),
    ] = 0.2,
    views: Annotated[int, number(TRAINING, "Number of augmented views of each photo to train on.", 0)] = 0,
    accept: Annotated[
        float | None,
        number(
            TRAINING,
            'Store a default for "none of these": the share of photos of the classes that keep their label.',
            LEAST_ACCEPT,
            max=MOST_ACCEPT,
        ),
    ] = None,
    epochs: Annotated[
        int | None, number(TRAINING, "Passes over the photos; the default depends on the method.", 1)
    ] = None,
    lr: Annotated[
        float | None, number(TRAINING, "Peak learning rate; the default is computed from the backbone.", 0)
    ] = None,
    batch_size: Annotated[
        int | None, number(TRAINING, "Photos per step; the default depends on the method.", 1)
    ] = None,
    seed: Annotated[int, number(TRAINING, "Random seed.", 0)] = 1,
    resume: Annotated[bool, option(TRAINING, "Continue a run that was stopped.", "--resume")] = False,
    out: Annotated[Path, option(OUTPUT, "Prompt file to write.", "--out", "-o", metavar="FILE")] = Path(
        "prompt.qpt"
    ),
    force: ForceOption = False,
    report: ReportOption = None,
    as_json: JsonOption = False,
    policy: PolicyOption = None,
    trust: TrustOption = None,
    key: KeyOption = None,
    task: MadeForOption = None,
    work_dir: Annotated[
        Path | None,
        option(
            MACHINE,
            "Folder for checkpoints; by default in the user's cache (QPE_CACHE names its folder).",
            metavar="FOLDER",
        ),
    ] = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = 0,
    max_memory: MaxMemoryOption = None,
) -> None:
    """Tune a prompt on labelled photos.

    Writes a prompt file of a few hundred bytes, and reports the accuracy on held-out photos before and after.

    An existing file is replaced if it holds a prompt for the same classes; otherwise give --force.

    Example: qprompt-edge adapt ./photos --out belt.qpt
    """
    folder = _folder(photos, images)
    if method not in (None, "qcoop") and contexts != SHARED:
        raise typer.BadParameter(f"--contexts {contexts} is for --method qcoop; {method} shares its prompts")
    if accept is not None and (method not in (None, "qtaskres") or contexts != SHARED):
        raise typer.BadParameter(
            "--accept is for --method qtaskres; the others do not calibrate their scores"
        )
    rules = Policy.of(policy, trust)
    check_writable(out)
    if report is not None:
        check_report(report, out)
    if not force:
        check_replaceable(
            out, lambda: find_labelled(folder, labels).classes, lambda path: read_prompt_file(path, rules)
        )
    seal = seal_for(key, task, None, rules)
    try:
        with progress_reporter() as reporter:
            result = adapt(
                folder,
                labels=labels,
                test_images=test_images,
                class_names=class_names,
                backbone=backbone,
                method=method,
                bits=bits_of(bits),
                contexts=contexts,
                context_init=context_init,
                shots=shots,
                holdout=holdout,
                views=views,
                accept=accept,
                epochs=epochs,
                lr=lr,
                batch_size=batch_size,
                seed=seed,
                resume=resume,
                work_dir=work_dir,
                provider=provider,
                threads=threads,
                max_memory=max_memory,
                reporter=reporter,
            )
    except KeyboardInterrupt:
        say("interrupted; what was done is kept: run the same command with --resume to continue")
        raise typer.Exit(130) from None
    try:
        result.save(out, seal)
    except OutputError as error:
        kept = "The training is kept: run again with --resume and another --out"
        raise OutputError(f"{error}. {kept}" if result.work.holds_checkpoint else str(error)) from error
    try:
        _show(result, out, aside=beside_a_file(as_json))
        if report is not None:
            with progress_reporter() as reporter:
                page = _report(result, out, reporter)
            write_report(report, page, say)
        if as_json:
            emit(as_dict(result, out, report))
    except QPromptError as error:
        raise OutputError(f"{error}; the prompt is written to {out}") from error


def _folder(photos: Path | None, images: Path | None) -> Path:
    """The folder of photos, given as an argument or as an option."""
    if photos is not None and images is not None:
        raise typer.BadParameter("give the folder of photos once: as PHOTOS or as --images")
    folder = photos or images
    if folder is None:
        raise typer.BadParameter("PHOTOS is missing: the folder with one sub-folder of photos per class")
    return folder


def as_dict(result: AdaptResult, out: Path, report: Path | None) -> dict[str, Any]:
    """The result as `--json` prints it."""
    judged = result.holdout
    return {
        "prompt": str(out),
        "bytes": len(result.prompt.to_bytes()),
        "method": result.prompt.method,
        "bits": result.options.training.bits,
        "classes": [name.label for name in result.prompt.classes],
        "images": {
            "train": result.train_photos,
            "holdout": judged.adapted.n if judged else 0,
            "skipped": [{"path": str(skip.path), "reason": skip.reason} for skip in result.skipped],
            "in_several_classes": [photo.to_json() for photo in result.same],
            "single_photo_classes": list(result.single),
            "classes_without_holdout": list(judged.missing) if judged else [],
        },
        "holdout": None
        if judged is None
        else {
            name: {"top1": scores.top1, "class_mean": scores.class_mean}
            for name, scores in (
                ("zero_shot", judged.zero_shot),
                ("context", judged.context),
                ("adapted", judged.adapted),
                ("probe", judged.probe),
            )
        },
        "mistakes": [mistake.to_json() for mistake in judged.mistakes] if judged else [],
        "helped": judged.change.helped if judged else None,
        "difference": judged.change.difference if judged else None,
        "interval": judged.change.interval if judged else None,
        "p": judged.change.p if judged else None,
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "steps": result.steps,
        "peak_rss_mb": round(result.peak_rss_mb, 1),
        "backbone": {"name": result.backbone_name, "fingerprint": result.prompt.fingerprint.hex()},
        "provider": result.provider,
        "report": None if report is None else str(report),
    }


def _report(result: AdaptResult, out: Path, reporter: Reporter) -> str:
    """Look at the photos, and say in a page what was found."""
    from qprompt_edge.checking.check import check  # only a report needs them
    from qprompt_edge.reporting.reports import adapt_report

    options = result.options
    checked = check(
        options.photos,
        labels=options.labels,
        backbone=options.backbone,
        provider=options.provider,
        threads=options.threads,
        max_memory=options.max_memory,
        reporter=reporter,
    )
    return adapt_report(result, out.name, checked=checked, reporter=reporter)


def _show(result: AdaptResult, out: Path, *, aside: bool) -> None:
    """The result as people read it: what `AdaptResult.summary` says, with messages apart from results."""
    for line in notes(result):
        say(line)
    for line in (*score_lines(result.holdout), verdict(result)):
        show(line, aside=aside)
    say(f"wrote {out}: {facts(result)}")
