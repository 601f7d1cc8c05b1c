"""The command line as a newcomer meets it: help, version, completion."""

import re
from typing import get_args

import pytest

from qprompt_edge.adaptation.options import CONTEXTS
from qprompt_edge.cli.adapt import Contexts, Method
from qprompt_edge.cli.parameters import Bits
from qprompt_edge.cli.reproduce import Protocol
from qprompt_edge.reproduction.measures import PROTOCOLS
from qprompt_edge.tuning.methods import METHODS
from qprompt_edge.tuning.quantizer import BIT_WIDTHS, UNQUANTIZED_BITS

COMMANDS = (
    "adapt", "check", "update", "predict", "eval", "inspect", "convert", "reproduce", "export", "bench", "backbones add", "serve", "watch",
)  # fmt: skip
GROUPS = ("Input:", "Training:", "Output:", "Signatures:", "Machine:", "Other:")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_help_has_an_example_and_its_options_in_groups(run, command, flag):
    result = run(*command.split(), flag)
    assert (result.code, result.err) == (0, "")
    assert f"Example: qprompt-edge {command} " in result.out
    headings = re.findall(r"^[A-Z]\w+:$", result.out, flags=re.MULTILINE)
    assert headings == [group for group in GROUPS if group in headings]
    assert headings[0] == "Input:"
    assert not re.search(r"<(str|int|float|path|list)\b", result.out)  # words for people, not types


def test_environment_variables_are_named(run):
    assert "QPE_BACKBONES" in run("predict", "-h").out
    assert "QPE_CACHE" in run("adapt", "-h").out
    assert {"QPE_BACKBONES", "QPE_CACHE"} <= set(re.findall(r"QPE_\w+", run("-h").out))


def test_version(run):
    result = run("--version")
    assert result.code == 0
    assert re.fullmatch(r"qprompt-edge \d+\.\d+\.\d+\S*\n", result.out)


def test_a_misspelled_command_gets_a_suggestion(run):
    result = run("predikt")
    assert result.code == 2
    assert "predict" in result.err.splitlines()[-1]


def test_choices_are_what_the_library_takes():
    assert get_args(Method) == tuple(METHODS)
    assert get_args(Contexts) == CONTEXTS
    assert get_args(Bits) == tuple(str(bits) for bits in (*BIT_WIDTHS, UNQUANTIZED_BITS))
    assert get_args(Protocol) == PROTOCOLS


def complete(run, monkeypatch, words: str) -> list[str]:
    """What bash is offered after these words."""
    monkeypatch.setenv("_QPROMPT_EDGE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    return run().out.split()


def test_the_shell_completes_commands_options_and_choices(run, monkeypatch):
    assert complete(run, monkeypatch, "qprompt-edge pre") == ["predict"]
    assert complete(run, monkeypatch, "qprompt-edge adapt --cont") == ["--contexts", "--context-init"]
    assert complete(run, monkeypatch, "qprompt-edge adapt --contexts per") == ["per-class"]
