"""`qprompt-edge adapt`: tune a prompt on labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qprompt_edge.adaptation.adapt import AdaptResult, Holdout, adapt
from qprompt_edge.adaptation.options import CONTEXTS, SHARED, AdaptOptions
from qprompt_edge.cli.output import counted, emit, percent, progress_reporter, reported, say, table
from qprompt_edge.cli.parameters import (
    backbone_option,
    bits_option,
    images_option,
    json_option,
    labels_option,
    max_memory_option,
    number_option,
    path_option,
    provider_option,
    threads_option,
)
from qprompt_edge.tuning.methods import METHODS, default_training
from qprompt_edge.tuning.qcoop import CONTEXT_INIT
from qprompt_runtime.errors import OutputError
from qprompt_runtime.files import check_writable

_SHOWN_SKIPPED = 10
_FAR_FROM_PROBE = 0.1


@click.command("adapt")
@images_option
@path_option("--out", "Prompt file to write.", default="prompt.qpt")
@labels_option
@path_option("--test-images", "Photos to judge by, laid out as --images; nothing is then held out.")
@path_option("--class-names", "CSV file with the columns label,text: words for labels.")
@backbone_option
@click.option("--method", type=click.Choice(list(METHODS)), default="qcoop", help="What is tuned.")
@bits_option("Bits a weight; 32 tunes without a quantizer.", default="1")
@click.option(
    "--contexts",
    type=click.Choice(CONTEXTS),
    default=SHARED,
    help="One context for all classes, or one for each.",
)
@click.option("--context-init", default=CONTEXT_INIT, help="Words that the context starts from.")
@number_option("--shots", int, "Photos of each class to train on; all by default.", 1)
@number_option("--holdout", float, "Share of each class's photos to judge by.", 0, max=0.9, default=0.2)
@number_option("--views", int, "Augmented views cached for each photo.", 0, default=0)
@number_option("--epochs", int, "Passes over the photos; by default what suits the method.", 1)
@number_option("--lr", float, "Peak learning rate; by default it follows from the backbone.", 0)
@number_option("--batch-size", int, "Photos a step; by default what suits the method (qcoop: all).", 1)
@number_option("--seed", int, "Of everything that is drawn.", 0, default=1)
@click.option("--resume", is_flag=True, help="Continue this task where it stopped.")
@path_option("--work-dir", "Where checkpoints go; by default in the user's cache.")
@provider_option
@threads_option
@max_memory_option
@json_option
@reported
def command(
    images: Path,
    out: Path,
    labels: Path | None,
    test_images: Path | None,
    class_names: Path | None,
    backbone: str,
    method: str,
    bits: str,
    contexts: str,
    context_init: str,
    shots: int | None,
    holdout: float,
    views: int,
    epochs: int | None,
    lr: float | None,
    batch_size: int | None,
    seed: int,
    resume: bool,
    work_dir: Path | None,
    provider: str,
    threads: int,
    max_memory: float | None,
    as_json: bool,
) -> None:
    """Tune a prompt on labelled photos.

    The prompt is a file of a few hundred bytes.

    Example: qprompt-edge adapt --images ./photos --out belt.qpt
    """
    if method != "qcoop" and contexts != SHARED:
        raise click.BadParameter(f"--contexts {contexts} is for --method qcoop; {method} shares its prompts")
    check_writable(out)
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
    training = default_training(method, bits=int(bits), seed=seed, **given)
    options = AdaptOptions(
        backbone=backbone,
        method=method,
        contexts=contexts,
        context_init=context_init,
        shots=shots,
        holdout=holdout,
        views=views,
        training=training,
        provider=provider,
        threads=threads,
        max_memory=max_memory,
    )
    try:
        with progress_reporter() as reporter:
            result = adapt(
                images,
                labels=labels,
                test_images=test_images,
                class_names=class_names,
                options=options,
                work_dir=work_dir,
                resume=resume,
                reporter=reporter,
            )
    except KeyboardInterrupt:
        say("interrupted; what was done is kept: run the same command with --resume to go on")
        raise click.exceptions.Exit(130) from None
    try:
        result.save(out)
    except OutputError as error:
        raise OutputError(
            f"{error}. The training is kept: run again with --resume and another --out"
        ) from error
    _show(result, out)
    if as_json:
        emit(as_dict(result, out))


def as_dict(result: AdaptResult, out: Path) -> dict[str, Any]:
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
            "single_photo_classes": list(result.single),
            "classes_without_holdout": list(judged.missing) if judged else [],
        },
        "holdout": None
        if judged is None
        else {
            name: {"top1": scores.top1, "class_mean": scores.class_mean}
            for name, scores in (
                ("zero_shot", judged.zero_shot),
                ("adapted", judged.adapted),
                ("probe", judged.probe),
            )
        },
        "helped": judged.change.helped if judged else None,
        "difference": judged.change.difference if judged else None,
        "interval": judged.change.interval if judged else None,
        "p": judged.change.p if judged else None,
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
        "steps": result.steps,
        "peak_rss_mb": round(result.peak_rss_mb, 1),
        "backbone": {"name": result.backbone_name, "fingerprint": result.prompt.fingerprint.hex()},
        "provider": result.provider,
    }


def _show(result: AdaptResult, out: Path) -> None:
    """The result as people read it."""
    for skip in result.skipped[:_SHOWN_SKIPPED]:
        say(f"skipped {skip.path}: {skip.reason}")
    if len(result.skipped) > _SHOWN_SKIPPED:
        say(f"... and {len(result.skipped) - _SHOWN_SKIPPED} more files; --json lists all")
    if result.single:
        say(f"trained on a single photo: {', '.join(result.single)}")
    if result.holdout is not None:
        _show_holdout(result.holdout)
    options = result.options
    say(verdict(result.holdout, may_split=options.method == "qcoop" and options.contexts == SHARED))
    training = options.training
    say(
        f"wrote {out}: {len(result.prompt.to_bytes())} bytes, {len(result.prompt.classes)} classes, "
        f"{counted(training.bits, 'bit')} a weight, tuned on {result.train_photos} photos in "
        f"{result.steps} steps and {result.seconds['total']:.1f} s ({result.provider}, "
        f"{result.peak_rss_mb:.0f} MB at most)"
    )


def _show_holdout(holdout: Holdout) -> None:
    rows = [
        [name, percent(scores.top1), percent(scores.class_mean)]
        for name, scores in (
            ("zero-shot", holdout.zero_shot),
            ("adapted", holdout.adapted),
            ("linear probe", holdout.probe),
        )
    ]
    title = f"On {counted(holdout.adapted.n, 'photo')} not trained on"
    table(title, {"": "left", "top-1": "right", "mean over classes": "right"}, rows)
    if holdout.missing:
        say(
            f"no photo to judge by (fewer than 4, or too alike): {', '.join(holdout.missing)}; "
            "--test-images DIR judges by photos of your choice"
        )


def verdict(holdout: Holdout | None, *, may_split: bool) -> str:
    """What the hold-out says, in words; `may_split`: a context for each class is among what may help."""
    if holdout is None:
        return (
            "Nothing was held out, so nothing says how good this is; give --test-images DIR or --holdout 0.2."
        )
    change, n = holdout.change, counted(holdout.adapted.n, "photo")
    low, high = (100 * bound for bound in change.interval)
    found = (
        f"{percent(holdout.zero_shot.top1)} before, {percent(holdout.adapted.top1)} after, a difference of "
        f"{100 * change.difference:+.1f} points (95% interval {low:+.1f} to {high:+.1f}; p {change.p:.2g})"
    )
    if change.helped:
        probe = holdout.probe.top1
        far = may_split and probe - holdout.adapted.top1 > _FAR_FROM_PROBE
        closer = " --contexts per-class may come closer." if far else ""
        return f"Adaptation helped: {found}; a linear probe on the same features reaches {percent(probe)}.{closer}"
    per_class = "--contexts per-class, " if may_split else ""
    may_help = (
        "What may help: more photos of each class, words that describe the classes (--class-names), "
        f"{per_class}more --bits, or a larger --backbone."
    )
    if change.helped is None:
        return (
            f"Too close to call with {n}: {found}. More photos to judge by, with --test-images DIR or a larger "
            f"--holdout, would tell. {may_help}"
        )
    return f"Adaptation did not help, it made it worse: {found}. {may_help}"
