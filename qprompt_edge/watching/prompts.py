"""The prompts of a watch: several files for one backbone, each taken up anew when its file is exchanged.

A new version is read between two frames. Its class features come from the text tower, which opens for this
alone and closes again; the image tower's session stays. They are not kept on disk, where they would add up
over the versions. A file that is damaged, or for another backbone, is reported once, and so is one that was
deleted: the version before stays in force.
"""

from __future__ import annotations

import hashlib
import math
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qprompt_edge.watching.heads import Head, Heads
from qprompt_edge.watching.health import Version
from qprompt_runtime.admission import used
from qprompt_runtime.arrays import Array
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.classifier import PromptClassifier
from qprompt_runtime.errors import (
    BackboneMismatchError,
    BundleError,
    PromptFileError,
    ProviderError,
    QPromptError,
    TextError,
    TrustError,
)
from qprompt_runtime.none_of_these import competing_nouns, least_score, noun_features
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_envelope import MAX_FILE_BYTES
from qprompt_runtime.prompt_features import prompted_image_features
from qprompt_runtime.prompt_file import FOLDED, PromptFile
from qprompt_runtime.text import counted, printable

_SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was read is compared by content.

A later change may bear the same time.
"""

_RETRY_SECONDS = 30.0

Look = tuple[int, int, int, int, int]


@dataclass
class _Watched:
    """A prompt, and its file as it was when it was read last.

    Attributes:
        name: The prompt's name.
        path: Its file.
        version: Which version is in force.
        prompt: What it says.
        head: What its classes are compared by.
        look: How the file looked.
        digest: Hash of its content, taken up or refused.
        young: Whether a change since may not show in how it looks.
        problem: What was reported of it last; empty if it is in order.
        again: When to try it again, by the monotonic clock, after an error that was not the file's.
    """

    name: str
    path: Path
    version: Version
    prompt: PromptFile
    head: Head
    look: Look | None
    digest: bytes
    young: bool = True
    problem: str = ""
    again: float = math.inf


class Prompts:
    """Prompts for one backbone, and its image tower.

    Args:
        paths: Their files; a prompt's name is its file's, without the ending.
        backbone: The backbone.
        accept: Share of known pictures that "none of these" lets pass; None takes what each file says.
        cache: Folder that keeps the features of classes from start to start; None keeps nothing.
        policy: Which signed prompts may be used, beside what the device's policy says.
        scored: Whether pictures are scored by prompts whose file says what known photos score, though "none
            of these" is off.

    Raises:
        QPromptError: A file cannot be read or is for another backbone, two have the same name, or one that
            has prompts in the image tower stands beside others.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        backbone: Backbone,
        accept: float | None = None,
        cache: Path | None = None,
        policy: Policy | None = None,
        scored: bool = False,
    ) -> None:
        self.backbone, self._accept, self._cache, self._policy = backbone, accept, cache, policy
        self._scored = scored
        self._nouns: Array | None = None
        self._alone = len(paths) == 1
        names = [path.stem for path in paths]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise PromptFileError(f"two prompts are called {printable(doubled)}; rename one of the files")
        self._watched = [self._read(path) for path in paths]
        backbone.close_text_tower()
        self._join()
        backbone.open_image_tower()

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Name of each prompt to its labels."""
        return {watched.name: watched.head.labels for watched in self._watched}

    @property
    def versions(self) -> dict[str, Version]:
        """Name of each prompt to the version that is in force."""
        return {watched.name: watched.version for watched in self._watched}

    @property
    def space(self) -> str:
        """What image features are comparable with: the backbone's fingerprint, or the prompt's too."""
        prompt, plain = self._watched[0], self.backbone.manifest.fingerprint
        return f"{plain}:{prompt.digest.hex()}" if prompt.prompt.method == FOLDED else plain

    def encode(self, pixels: Array) -> Array:
        """Features of pictures, float32 [B,3,H,W] to unit rows [B,E]; the same for all prompts."""
        return prompted_image_features(self._watched[0].prompt, self.backbone, pixels)

    def refresh(self, note: Callable[[str], None]) -> list[str]:
        """Take up the files that were exchanged since the last call.

        Args:
            note: Prints a line: what was taken up, and what was not.

        Returns:
            Names of the prompts that are new.
        """
        return [watched.name for watched in self._watched if self._refreshed(watched, note)]

    def _refreshed(self, watched: _Watched, note: Callable[[str], None]) -> bool:
        look = _look(watched.path)
        late = time.monotonic() >= watched.again
        if look is not None and look == watched.look and not (watched.young or late):
            return False
        watched.look = look
        watched.young = look is not None and _is_young(look)
        try:
            fresh = self._take_up(watched, late)
        except QPromptError as error:
            if str(error) != watched.problem:
                note(f"{error}; the version before stays in force")
            watched.problem = str(error)
            return False
        watched.problem = ""
        if fresh:
            note(
                f"{printable(watched.path)} is taken up: {counted(len(watched.head.labels), 'class', 'classes')}"
            )
        return fresh

    def _take_up(self, watched: _Watched, late: bool) -> bool:
        """Put a file's content in force if it is new.

        Raises:
            QPromptError: It cannot be.
        """
        data = _content(watched.path)
        digest = hashlib.sha256(data).digest()
        if digest == watched.digest and not late:
            return False
        watched.digest, watched.again = digest, math.inf
        try:
            watched.version, watched.prompt, watched.head = self._prepare(watched.path, data, None)
        except (BundleError, ProviderError):  # memory, threads or files were short
            watched.again = time.monotonic() + _RETRY_SECONDS
            raise
        finally:
            self.backbone.close_text_tower()
        self._join()
        return True

    def _read(self, path: Path) -> _Watched:
        look = _look(path)
        data = _content(path)
        version, prompt, head = self._prepare(path, data, self._cache)
        return _Watched(path.stem, path, version, prompt, head, look, hashlib.sha256(data).digest())

    def _prepare(self, path: Path, data: bytes, cache: Path | None) -> tuple[Version, PromptFile, Head]:
        """A prompt as it runs, and what its classes are compared by; errors name the file."""
        try:
            prompt = PromptFile.from_bytes(data, self._policy)
            made = self._head(path.stem, prompt, cache)
            used(data, self._policy)
            return Version.of(data, prompt), *made
        except (PromptFileError, TrustError, BackboneMismatchError, TextError) as error:
            raise type(error)(f"{printable(path)}: {error}") from error

    def _head(self, name: str, prompt: PromptFile, cache: Path | None) -> tuple[PromptFile, Head]:
        calibration = prompt.calibration
        share = calibration.accept if self._accept is None else self._accept
        least = None if share is None else least_score(calibration, share)
        # the threshold is applied here, so that all prompts share the nouns
        plain = replace(prompt, calibration=replace(calibration, accept=None))
        classifier = PromptClassifier(plain, self.backbone, cache=cache)
        if classifier.prompt.method == FOLDED and not self._alone:
            raise PromptFileError(
                "has prompts in the image tower too, so it needs an image pass of its own; watch with this prompt alone"
            )
        scored = least is not None or (self._scored and bool(calibration.accept_scores))
        head = Head(name, classifier.labels, classifier.head, least, competing_nouns(prompt.classes), scored)
        if scored and self._nouns is None:
            self._nouns = noun_features(self.backbone, (), self._cache)
        return classifier.prompt, head

    def _join(self) -> None:
        heads = [watched.head for watched in self._watched]
        self.heads = Heads(heads, self._nouns if any(head.scored for head in heads) else None)


def _look(path: Path) -> Look | None:
    """What tells one version of a file from another; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_young(look: Look) -> bool:
    return time.time_ns() - look[4] < _SETTLED_NS


def _content(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        PromptFileError: It is no regular file, or cannot be read; the message begins with the path.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PromptFileError(f"{printable(path)}: is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)  # one byte too many is enough to refuse it
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PromptFileError(f"{printable(path)}: cannot be read: {reason}") from error
