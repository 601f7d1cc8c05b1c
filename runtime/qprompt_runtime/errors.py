"""Every error that a user can cause, one class per kind of cause.

The command line prints the message of a `QPromptError` as one line and exits with its `exit_code`; anything
else is a defect of ours and keeps its traceback. A message says what came, what was expected and what to do.
"""

from __future__ import annotations


class QPromptError(Exception):
    """Base of all errors that are the input's fault and not the program's."""

    exit_code = 1
    """What the command line exits with."""


class PromptFileError(QPromptError):
    """A prompt file is damaged, of an unknown version, or breaks the format."""


class TrustError(QPromptError):
    """The policy of this device does not let a file be used, or a signature or key is not in order."""

    exit_code = 3


class WrongTaskError(TrustError):
    """A prompt was signed for another task than the one that it shall be used for."""


class OlderPromptError(TrustError):
    """A prompt is older than the newest one of its task that was used here."""


class TrustWarning(UserWarning):
    """Under the policy `warn`: what would stop a file from being used under `enforce`."""


class BundleError(QPromptError):
    """A backbone bundle is missing, incomplete, altered, or of an unknown version."""


class BackboneMismatchError(QPromptError):
    """A prompt was tuned for another backbone than the one it is used with."""


class BakeError(QPromptError):
    """A baked classifier cannot be written as asked, read, or updated."""


class ImageError(QPromptError):
    """An image file cannot be read, or is refused.

    Args:
        reason: What is wrong with it.
        name: Which one it is, for the message: `name: reason`.
    """

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(reason if name is None else f"{name}: {reason}")
        self.reason = reason


class PhotosError(QPromptError):
    """A folder or list of labelled photos cannot be trained or tested on."""


class TextError(QPromptError):
    """A class name cannot be turned into a prompt (empty, or longer than the text tower reads)."""


class ProviderError(QPromptError):
    """An execution provider was asked for that this machine does not have."""


class MemoryLimitError(QPromptError):
    """The work does not fit in the memory that `--max-memory` allows."""


class OutputError(QPromptError):
    """A result cannot be written."""


class WorkDirError(QPromptError):
    """A work directory belongs to another task, or what it holds is damaged."""


class CheckpointError(QPromptError):
    """A checkpoint is damaged, hostile, of a kind that is not read, or holds no prompt."""
