"""The classes of a prompt file: a label that a prediction prints, and a text that stands in the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.prompt_envelope import parts, require, typed

MAX_TEXT_BYTES = 1000


@dataclass(frozen=True)
class ClassName:
    """A class: `label` is what a prediction prints, `text` is what stands in the prompt."""

    label: str
    text: str

    def __post_init__(self) -> None:
        check_text("a class label", self.label)
        check_text("the prompt text of a class", self.text)

    @classmethod
    def from_label(cls, label: str) -> ClassName:
        """Make a class whose prompt text follows from its label."""
        return cls(label, rule_text(label))


def rule_text(label: str) -> str:
    """Return the prompt text of a class that was given none: `_` and `-` become spaces."""
    return label.replace("_", " ").replace("-", " ")


def check_text(what: str, text: str, least: int = 1) -> None:
    """Check that a text of a prompt file is of `least` to `MAX_TEXT_BYTES` bytes of UTF-8.

    Raises:
        PromptFileError: It is not.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PromptFileError(
            f"{what} is {text[:80]!r}, expected text that can be encoded as UTF-8"
        ) from error
    require(
        least <= size <= MAX_TEXT_BYTES, what, f"{size} bytes", f"{least} to {MAX_TEXT_BYTES} bytes of UTF-8"
    )


def encode_class(name: ClassName) -> str | list[str]:
    """Return the class as the file's item: its label, or its label and text.

    The text is added if it is not the one that the rule makes from the label.
    """
    return name.label if name.text == rule_text(name.label) else [name.label, name.text]


def decode_class(value: object) -> ClassName:
    """Read what `encode_class` gives, from a file that is not trusted.

    Raises:
        PromptFileError: A part is missing, of another type, or breaks the format.
    """
    if isinstance(value, str):
        return ClassName.from_label(value)
    label, text = parts(value, 2, "a class")
    return ClassName(typed(str, label, "a class label"), typed(str, text, "the prompt text of a class"))
