"""`install`, `rollback`, `status`: which prompt runs on this device.

The order of the writes is what makes an interruption harmless. The new file and the record come first and
change nothing that runs; then one rename; then what forbids older prompts, which must not come before the
rename, or the old prompt would be refused while it still runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qprompt_edge.cache import cache_folder
from qprompt_edge.evaluation.paired import Comparison
from qprompt_edge.reporter import Reporter
from qprompt_edge.shipping.installed import Installed, NotNewerError, WorseError, WrongPlaceError
from qprompt_edge.shipping.place import (
    KEPT,
    RUNNING,
    Entry,
    Record,
    digest_of,
    kept_file,
    read_record,
    remove_unlisted,
    running,
    sequence_of,
    write_record,
)
from qprompt_runtime.accepted import clock, locked
from qprompt_runtime.admission import restore, used
from qprompt_runtime.bundle import find_bundle, read_manifest
from qprompt_runtime.cose_sign1 import Claims, claims_in
from qprompt_runtime.errors import BundleError, OlderPromptError, QPromptError, TrustError, WrongTaskError
from qprompt_runtime.files import check_writable, write_atomic
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import PromptFile, prompt_in, read_content
from qprompt_runtime.text import percent, printable


def install(
    new: Path,
    folder: Path,
    *,
    canary: Path | None = None,
    backbone: str | None = None,
    policy: Policy | None = None,
    max_memory: float | None = None,
    reporter: Reporter | None = None,
) -> Installed:
    """Replace the prompt that runs, if the new one is genuine, newer, for this device, and not worse.

    Args:
        new: The prompt file; it is read once.
        folder: Where it shall run from, as `prompt.qpt`.
        canary: A folder with one sub-folder of this device's own photos for each class, to try it on; None
            tries nothing.
        backbone: Name or folder of the backbone that it shall run on; None: that of what runs, or the one
            that it names.
        policy: What the caller asks for beside what the device's policy says.
        max_memory: Most resident memory in MB of 10^6 bytes; None sets no limit.
        reporter: Told how far it is.

    Raises:
        QPromptError: As `install_content`; and if the file cannot be read.
    """
    return install_content(
        read_content(new),
        new,
        folder,
        canary=canary,
        backbone=backbone,
        policy=policy,
        max_memory=max_memory,
        reporter=reporter,
    )


def install_content(
    data: bytes,
    name: Path | str,
    folder: Path,
    *,
    canary: Path | None = None,
    backbone: str | None = None,
    policy: Policy | None = None,
    max_memory: float | None = None,
    reporter: Reporter | None = None,
) -> Installed:
    """`install` for a file that is in memory.

    Args:
        data: Its content.
        name: What errors call it.
        folder: This and the others: as for `install`.
        canary: See there.
        backbone: See there.
        policy: See there.
        max_memory: See there.
        reporter: See there.

    Raises:
        TrustError: The policy refuses it.
        NotNewerError: What runs, or ran, is as new.
        WrongPlaceError: It is for another backbone or task.
        WorseError: It is worse on the canary photos, beyond noise.
        QPromptError: A file cannot be read or written, or the prompt does not work on the backbone.
    """
    reporter = reporter or Reporter()
    with _alone(folder):
        try:
            prompt = prompt_in(data, name, policy)
        except OlderPromptError as error:
            raise NotNewerError(str(error)) from error
        except WrongTaskError as error:
            raise WrongPlaceError(str(error)) from error
        record, old = read_record(folder), running(folder)
        old_prompt = _still_used(old, folder, policy, reporter)
        claims = claims_in(data)
        _check_newer(data, old, record)
        _check_task(claims, old)
        bundle = _check_backbone(prompt, old_prompt, backbone)
        _check_usable(prompt, bundle)
        comparison, canaries = None, 0
        if canary is not None and old_prompt is not None:
            comparison, canaries = _try(old_prompt, prompt, bundle, canary, max_memory, reporter)
        elif canary is not None:
            reporter.note(
                "nothing runs here that the new prompt could be compared with: the canary photos were not used"
            )
        before = None if old is None else digest_of(old)
        record = record if old is None else _with_running(folder, record, old)
        record = record.with_entry(Entry(digest_of(data), sequence_of(data), clock(), before))
        write_atomic(kept_file(folder, digest_of(data)), data)
        write_record(folder, record)
        write_atomic(folder / RUNNING, data)
        write_record(folder, record.reaching(sequence_of(data)))
        used(data, policy)
        restore(data, (), policy)
        remove_unlisted(folder, record)
        return Installed(folder / RUNNING, digest_of(data), claims, before, comparison, canaries)


def rollback(folder: Path, *, policy: Policy | None = None) -> Installed:
    """Put back what ran before. `install` must still exceed the highest sequence that was seen.

    Args:
        folder: Where it runs from.
        policy: What the caller asks for beside what the device's policy says.

    Raises:
        QPromptError: Nothing ran before, or it is not kept any more; or a file cannot be read or written.
        TrustError: The kept file is not what ran, or the policy refuses it: it expired, or its key was
            revoked.
    """
    with _alone(folder):
        record, now = read_record(folder), running(folder)
        record = record if now is None else _with_running(folder, record, now)
        before = None if now is None else record.before(digest_of(now))
        if now is None or before is None:
            raise QPromptError(
                f"nothing ran in {printable(folder)} before what runs now, or it is not kept any more"
            )
        path = kept_file(folder, before.digest)
        data = read_content(path)
        if digest_of(data) != before.digest:
            raise TrustError(f"{printable(path)} is not what ran here: it was altered")
        write_record(folder, record)
        restore(now, (digest_of(now), before.digest), policy)  # until the rename, what runs may go on
        try:
            prompt_in(data, path, policy)
        except QPromptError:
            restore(now, (digest_of(now),), policy)
            raise
        write_atomic(folder / RUNNING, data)
        restore(data, (before.digest,), policy)
        return Installed(folder / RUNNING, before.digest, claims_in(data), before.before)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other installs out of the folder meanwhile; raises an `OutputError` if it cannot be written."""
    check_writable(folder / RUNNING)
    with locked(folder / KEPT):
        yield


def _with_running(folder: Path, record: Record, content: bytes) -> Record:
    """The record with what runs now; what was put there by hand is kept too, and nothing else is written."""
    digest, sequence = digest_of(content), sequence_of(content)
    if record.entry(digest) is None:
        write_atomic(kept_file(folder, digest), content)
        last = record.entries[-1].digest if record.entries else None
        record = record.with_entry(Entry(digest, sequence, clock(), last))
    return record.reaching(sequence)


def _still_used(
    old: bytes | None, folder: Path, policy: Policy | None, reporter: Reporter
) -> PromptFile | None:
    """The prompt that runs; None if there is none, or none that may be loaded any more."""
    if old is None:
        return None
    try:
        return prompt_in(old, folder / RUNNING, policy)
    except QPromptError as error:
        reporter.note(f"what runs now is not compared with, as it cannot be loaded any more: {error}")
        return None


def _check_newer(data: bytes, old: bytes | None, record: Record) -> None:
    if data == old:
        raise NotNewerError("this is the prompt that runs already")
    highest = max(record.highest, 0 if old is None else sequence_of(old))
    sequence = sequence_of(data)
    if highest and sequence <= highest:
        what = (
            f"its sequence number is {sequence}"
            if sequence
            else "it is not signed and has no sequence number"
        )
        raise NotNewerError(
            f"the prompt is not newer than what was installed here: {what}, and {highest} was installed"
        )


def _check_task(claims: Claims | None, old: bytes | None) -> None:
    try:
        before = None if old is None else claims_in(old)
    except TrustError:
        before = None  # damaged: it has no task
    if claims is not None and before is not None and claims.task != before.task:
        raise WrongPlaceError(
            f"the prompt is for the task {claims.task!r}, and what runs here is for {before.task!r}"
        )


def _check_backbone(prompt: PromptFile, old: PromptFile | None, backbone: str | None) -> Path:
    """The folder of the bundle that the prompt shall run on."""
    name = backbone or (prompt.backbone_name if old is None else old.backbone_name)
    try:
        bundle = find_bundle(name)
    except BundleError as error:
        raise WrongPlaceError(
            f"the prompt was tuned for the backbone {prompt.backbone_name!r}: {error}"
        ) from error
    fingerprint = read_manifest(bundle).fingerprint
    if prompt.fingerprint.hex() != fingerprint:
        raise WrongPlaceError(
            f"the prompt was tuned for the backbone {prompt.backbone_name!r} ({prompt.fingerprint.hex()[:8]}), and what runs "
            f"here is {name!r} ({fingerprint[:8]})"
        )
    return bundle


def _check_usable(prompt: PromptFile, bundle: Path) -> None:
    """Make the classifier that will run: a prompt that does not work on the backbone is refused here.

    The features of its classes are kept in the cache, so what loads it next starts sooner.
    """
    from qprompt_runtime.backbone import Backbone
    from qprompt_runtime.classifier import PromptClassifier

    _ = PromptClassifier(prompt, Backbone.load(bundle), cache=cache_folder("classes")).class_features


def _try(
    old: PromptFile, new: PromptFile, bundle: Path, canary: Path, max_memory: float | None, reporter: Reporter
) -> tuple[Comparison | None, int]:
    from qprompt_edge.shipping.canary import try_on_canaries  # only where photos are tried
    from qprompt_runtime.backbone import Backbone

    backbone = Backbone.load(bundle)
    if old.fingerprint != backbone.fingerprint:
        reporter.note("what runs now is for another backbone: the canary photos were not used")
        return None, 0
    change, photos = try_on_canaries(old, new, backbone, canary, max_memory, reporter)
    if change.helped is False:
        raise WorseError(
            f"the prompt is worse than what runs, on {photos} canary photos: {percent(-change.difference)} fewer are right "
            f"(p {change.p:.2g}); it was not installed"
        )
    return change, photos
