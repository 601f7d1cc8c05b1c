"""The blocks of code of README, guides and examples: what a reader might copy."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "deploy/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
    if "node_modules" not in page.parts
)
_FENCED = r"^```(\w*)\n(.*?)^```$"
_INDENTED = r"(^    \S[^\n]*\n(?:^    [^\n]*\n|\n(?=    ))*)"
_BLOCK = re.compile(f"{_FENCED}|{_INDENTED}", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block: its language, and its text without the indentation.

    What is indented is shell; everything else says its language.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        language, fenced, indented = match.groups()
        if indented is None:
            found.append(Block(page, line, language, fenced))
        else:
            found.append(Block(page, line, "sh", textwrap.dedent(indented)))
    return found


def shell(page: str) -> list[str]:
    """The blocks of shell of a page."""
    return [block.text for block in blocks(page) if block.language == "sh"]
