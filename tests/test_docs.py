"""What the documents point to is there, their Python runs, and the reference says what the code says."""

import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result
from conftest import TINY_FOLDER
from scenes import write_photo, write_photos

from qprompt_edge import PromptClassifier, adapt

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NO_COMMANDS = ("needs a 64-bit system", "classifier 1")
"""What else follows the program's name on the pages: a message, and a value in a baked file."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def local_links(page: Path) -> list[str]:
    return [
        link for link in LINK.findall(prose(page)) if "://" not in link and not link.startswith("mailto:")
    ]


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have in links, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in local_links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}, which has no such heading"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in local_links(README)}
    assert {page for page in PAGES if page.parent != ROOT} <= linked


def commands(page: Path) -> list[str]:
    """What follows `qprompt-edge` in blocks of code and within lines, as far as it is one command."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    block = r"^```(\w*)\n(.*?)^```$|((?:^ {4,}\S[^\n]*\n)+)"
    blocks = re.findall(block, text, flags=re.DOTALL | re.MULTILINE)
    shell = [indented or fenced for language, fenced, indented in blocks if language in ("", "sh")]
    lines = "".join(shell).splitlines()
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]
    lines = [re.sub(r"<\w[^>]*>", "NAME", line) for line in lines]
    found = [re.search(r"\bqprompt-edge ([a-z]+ [^|#&;<>`]*)", line) for line in lines]
    return [it[1] for it in found if it and not it[1].startswith(NO_COMMANDS)]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_and_options_in_the_pages_are_there(page: Path, run: Callable[..., Result]) -> None:
    """With --help, options are read and nothing is done; `test_doc_commands` runs some pages for real."""
    for command in commands(page):
        name, *options = shlex.split(command.replace("'", "").replace("...", ""))
        result = run(name, "--help", *options)
        assert result.code == 0, (command, result.err)


def snippets(page: Path) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=lambda page: page.name)
def test_python_in_the_pages_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Where the pages' photos and backbones lie.

    Data sets as large as those of `datasets.md` are not here.
    """
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos")
    write_photo(tmp_path / "new.jpg", (40, 80, 220), 1)
    (tmp_path / "ViT-B-32").symlink_to(TINY_FOLDER)
    adapt("photos", epochs=1, holdout=0).save("belt.qpt")
    if page.name == "bake.md":
        pytest.importorskip("onnx", reason="no onnx: pip install 'qprompt-edge[bake]'")
        from qprompt_exporters.baking import bake

        bake(PromptClassifier.load("belt.qpt"), tmp_path / "belt.onnx", pixels="uint8")
    for number, snippet in enumerate(snippets(page)):
        code = compile(snippet, f"{page.name}, block {number}", "exec")
        if page.name != "datasets.md":
            exec(code, {})
    assert "Error" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["api", "cli"])
def test_the_reference_is_up_to_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    page = runpy.run_path(str(ROOT / "docs" / f"{name}.py"))["page"]()
    written = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert page == written, f"run `python docs/{name}.py`"


NOT_OURS = ("No matching distribution", "error: externally", "No space left", "Illegal instruction", "Killed")


def test_messages_of_the_troubleshooting_page_are_those_of_the_program() -> None:
    """Word for word, but for names and numbers: CAPITALS, 'A', and what f-strings fill in."""
    sources = (path.read_text(encoding="utf-8") for path in ROOT.glob("q*/**/*.py"))
    runtime = (path.read_text(encoding="utf-8") for path in ROOT.glob("runtime/**/*.py"))
    code = re.sub(r"['\"]\s*\n\s*(?:f?['\"])", "", "\n".join([*sources, *runtime]))  # strings that are joined
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.+?) \|", page, flags=re.MULTILINE)
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    ours = [message for message in messages if not message.startswith(NOT_OURS)]
    assert len(ours) > 20
    for message in ours:
        for part in re.split(r"'\w+'|\b(?!LFS|HTML)[A-Z]+\b|\.\.\.|\d, \d|train, val", message):
            assert part.strip(" ':;,") in code, f"no message has {part!r} (of {message!r})"
