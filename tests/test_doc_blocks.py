"""No block of code on any page is forgotten: it is run, read by the program that it is for, or listed."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result
from doc_blocks import PAGES, ROOT, Block, blocks
from test_doc_commands import RUN
from test_docs import PAGES as PYTHON_RUN

DEPLOY = ROOT / "deploy"
ALL = [block for page in PAGES for block in blocks(page)]
COMPARED = {
    ("docs/cli.md", "text"): "written by docs/cli.py; test_docs.py",
    ("docs/api.md", "text"): "written by docs/api.py; test_docs.py",
    ("docs/prompt-file.md", "hex"): "the bytes of a prompt; test_prompt_file.py",
    ("docs/signing.md", "hex"): "the bytes of a signed prompt; test_signing_page.py",
}
ONLY_SHOWN = {
    # where a page says how things look; nothing would read it
    "CONTRIBUTING.md": "folders",
    "docs/tutorial.md": "folders",
    "docs/serve.md": "folders",
    "docs/signing.md": "a public key, cut; and the form of messages, for which no reader is installed",
    "docs/prompt-file.md": "a formula; and the form of files, for which no reader is installed",
    "docs/method.md": "a formula",
    "docs/health.md": "a formula; and a query, whose names are looked for",
    "examples/flower/README.md": "a log",
}


def of(language: str) -> list[Block]:
    found = [block for block in ALL if block.language == language]
    assert found, f"no page has a block of {language}"
    return found


def named(block: Block) -> str:
    return block.place


def options(block: Block) -> bool:
    return block.language == "text" and block.text.startswith("--")


def broker_rights(block: Block) -> bool:
    return block.language == "text" and block.text.startswith("user ")


def seen_to(block: Block) -> bool:
    """Whether a test runs, reads or compares this block, or the tables above name it."""
    if block.language == "sh":
        return block.page in RUN
    if block.language == "python":
        return ROOT / block.page in PYTHON_RUN
    if block.language in ("yaml", "json", "ini") or options(block) or broker_rights(block):
        return True  # below
    return (block.page, block.language) in COMPARED or (
        block.language in ("text", "cddl", "promql") and block.page in ONLY_SHOWN
    )


def test_no_block_is_forgotten() -> None:
    forgotten = [block.place for block in ALL if not seen_to(block)]
    assert forgotten == [], "say what language the block is in, and see tests/test_doc_blocks.py"
    assert len(ALL) > 150


def test_what_the_tables_name_is_there() -> None:
    assert set(COMPARED) <= {(block.page, block.language) for block in ALL}
    assert set(ONLY_SHOWN) <= {block.page for block in ALL if block.language in ("text", "cddl", "promql")}


@pytest.mark.parametrize("block", of("yaml"), ids=named)
def test_yaml_is_read(block: Block) -> None:
    yaml = pytest.importorskip("yaml", reason="no yaml: pip install pyyaml")
    read = yaml.safe_load(block.text)
    assert isinstance(read, dict)
    for kind in ("triggers", "actions", "scrape_configs", "groups"):
        assert all(isinstance(entry, dict) for entry in read.get(kind, []))


@pytest.mark.parametrize("block", of("json"), ids=named)
def test_json_is_read(block: Block) -> None:
    assert isinstance(json.loads(block.text), dict)


@pytest.mark.parametrize("block", [block for block in ALL if options(block)], ids=named)
def test_options_by_themselves_are_those_of_watch(block: Block, run: Callable[..., Result]) -> None:
    result = run("watch", "--help", *shlex.split(block.text))
    assert result.code == 0, result.err


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing here")
@pytest.mark.parametrize("block", of("ini"), ids=named)
def test_systemd_takes_what_is_added_to_a_unit(block: Block, tmp_path: Path) -> None:
    page = (ROOT / block.page).read_text(encoding="utf-8")
    edited = re.findall(r"systemctl\s+edit\s+(qprompt-\w+)", "\n".join(page.splitlines()[: block.line]))
    unit = tmp_path / f"{edited[-1]}.service"
    text = (DEPLOY / unit.name).read_text(encoding="utf-8")
    text = text.replace("/opt/qprompt/bin/qprompt-edge", shutil.which("true") or "")
    unit.write_text(f"{text}\n{block.text}", encoding="utf-8")
    command = ["systemd-analyze", "verify", str(unit)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("block", [block for block in ALL if broker_rights(block)], ids=named)
def test_mosquitto_takes_the_rights(block: Block, tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt", reason="needs the extra `mqtt`")
    from mosquitto import MOSQUITTO, Mosquitto

    if MOSQUITTO is None:
        pytest.skip("needs mosquitto, from Debian's package")
    rights = tmp_path / "acl"
    rights.write_text(block.text, encoding="utf-8")
    broker = Mosquitto(tmp_path, "allow_anonymous true", f"acl_file {rights}")
    broker.start()  # it ends at once if it does not understand them
    broker.stop()


def test_the_metrics_of_the_pages_are_there() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("qprompt_edge/**/*.py"))
    page = (ROOT / "docs" / "health.md").read_text(encoding="utf-8")
    names = set(re.findall(r"\bqprompt_(?:day|prompt|answer|source|frames|running|build|none)\w*", page))
    assert len(names) > 12
    for name in names:
        assert name.removeprefix("qprompt_") in code, name
