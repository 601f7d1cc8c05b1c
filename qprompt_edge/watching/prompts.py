"""The prompts of a watch: several files for one backbone, each taken up anew when its file is exchanged.

A new version is read between two frames. Its class features come from the text tower, which opens for this
alone and closes again; the image tower's session stays. They are not kept on disk, where they would add up
over the versions. A file that is damaged, or for another backbone, is reported once, and so is one that was
deleted: the version before stays in force.

A version that expires while it is in force, or whose key is revoked, is withdrawn under the policy `enforce`:
it gives no answers until a file comes that passes.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qprompt_edge.watching.heads import Head, Heads
from qprompt_edge.watching.health import Version
from qprompt_edge.watching.prompt_files import Look, content_of, is_young, look_of, name_of
from qprompt_runtime.admission import lapsed, used
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
from qprompt_runtime.prompt_features import prompted_image_features
from qprompt_runtime.prompt_file import FOLDED, PromptFile
from qprompt_runtime.text import counted, printable

_RETRY_SECONDS = 30.0
_CHECK_SECONDS = 10.0
"""How often it is looked whether a version has expired; it takes a millisecond."""


@dataclass
class _Watched:
    """A prompt, and its file as it was when it was read last.

    Attributes:
        name: The prompt's name.
        path: Its file.
        version: Which version is in force.
        prompt: What it says.
        head: What its classes are compared by.
        data: The file's content, signature and all.
        look: How the file looked.
        digest: Hash of its content, taken up or refused.
        young: Whether a change since may not show in how it looks.
        problem: What was reported of it last; empty if it is in order.
        again: When to try it again, by the monotonic clock, after an error that was not the file's.
        lapse: Why the version would not be taken up any more; empty if it would.
    """

    name: str
    path: Path
    version: Version
    prompt: PromptFile
    head: Head
    data: bytes
    look: Look | None
    digest: bytes
    young: bool = True
    problem: str = ""
    again: float = math.inf
    lapse: str = ""


class Prompts:
    """Prompts for one backbone, and its image tower.

    `withdrawn` has the names of those that may not be used any more, each with the reason.

    Args:
        paths: Their files; a prompt's name is its file's, without the ending; of one that was installed, its
            folder's.
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
        self.withdrawn: dict[str, str] = {}
        self._checked = time.monotonic()
        self._alone = len(paths) == 1
        names = [name_of(path) for path in paths]
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
        fresh = [watched.name for watched in self._watched if self._refreshed(watched, note)]
        if fresh or time.monotonic() - self._checked >= _CHECK_SECONDS:
            self._checked = time.monotonic()
            for name in fresh:
                self.withdrawn.pop(name, None)
            for watched in self._watched:
                self._check_lapse(watched, note)
        return fresh

    def _check_lapse(self, watched: _Watched, note: Callable[[str], None]) -> None:
        """Withdraw a version that has expired, or warn of it; both are said once, and so is its return."""
        found = lapsed(watched.data, self._policy)
        reason = "" if found is None else f"{printable(watched.path)}: {found.reason}"
        if found is None or not found.stops:
            if self.withdrawn.pop(watched.name, None) is not None:
                note(f"{printable(watched.path)} gives answers again")
        elif watched.name not in self.withdrawn:
            self.withdrawn[watched.name] = reason
            note(f"{reason}; it gives no answers until a prompt comes that passes")
        if found is not None and not found.stops and not watched.lapse:
            note(f"warning: {reason}; it is used nevertheless, as the policy is `warn`")
        watched.lapse = reason

    def _refreshed(self, watched: _Watched, note: Callable[[str], None]) -> bool:
        look = look_of(watched.path)
        late = time.monotonic() >= watched.again
        if look is not None and look == watched.look and not (watched.young or late):
            return False
        watched.look = look
        watched.young = look is not None and is_young(look)
        try:
            fresh = self._take_up(watched, late)
        except QPromptError as error:
            # what a policy refuses is tried again, and then says another time
            problem = watched.digest.hex() if isinstance(error, TrustError) else str(error)
            if problem != watched.problem:
                note(f"{error}; the version before stays in force")
            watched.problem = problem
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
        data = content_of(watched.path)
        digest = hashlib.sha256(data).digest()
        if digest == watched.digest and not late:
            return False
        watched.digest, watched.again = digest, math.inf
        try:
            watched.version, watched.prompt, watched.head = self._prepare(watched.path, data, None)
            watched.data, watched.lapse = data, ""
        except (BundleError, ProviderError, TrustError):  # memory, threads, files or a key were missing
            watched.again = time.monotonic() + _RETRY_SECONDS
            raise
        finally:
            self.backbone.close_text_tower()
        self._join()
        return True

    def _read(self, path: Path) -> _Watched:
        look = look_of(path)
        data = content_of(path)
        version, prompt, head = self._prepare(path, data, self._cache)
        found = lapsed(data, self._policy)  # what is loaded nevertheless was warned of
        lapse = "" if found is None else found.reason
        digest = hashlib.sha256(data).digest()
        return _Watched(name_of(path), path, version, prompt, head, data, look, digest, lapse=lapse)

    def _prepare(self, path: Path, data: bytes, cache: Path | None) -> tuple[Version, PromptFile, Head]:
        """A prompt as it runs, and what its classes are compared by; errors name the file."""
        try:
            prompt = PromptFile.from_bytes(data, self._policy)
            made = self._head(name_of(path), prompt, cache)
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
