"""Write docs/cli.md from the command line itself; run `python docs/cli.py`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from qprompt_edge.cli.app import app
from qprompt_edge.cli.parameters import GROUPS

PAGE = Path(__file__).parent / "cli.md"
_PROGRAM = "qprompt-edge"
_INTRODUCTION = """\
# Commands

Every command with its arguments and options, made from the program by `python docs/cli.py`.
`--help` prints the same.

Results go to stdout, messages and progress to stderr. With `--json`, stdout holds JSON only. Exit
codes: 0 done, 1 failed or bad input, 2 wrong usage, 3 refused by the policy for signed prompts
(`install` and `fetch` have 4 to 6 too, `merge` has 6), 130 interrupted. `qprompt-edge --version`
prints the version, and `qprompt-edge --install-completion` teaches your shell to complete commands,
options and choices.

| variable | meaning |
| --- | --- |
| `QPE_BACKBONES` | folder of added backbones; by default `~/.local/share/qprompt-edge/backbones` |
| `QPE_CACHE` | folder for caches and checkpoints; by default `~/.cache/qprompt-edge` |
| `QPE_POLICY`, `QPE_TRUST`, `QPE_POLICY_FILE` | tighten [the policy](signing.md#the-policy) for signed prompts |
| `QPE_PASSPHRASE` | passphrase of a key that signs |
"""


def page() -> str:
    """The whole page."""
    program = typer.main.get_command(app)
    context = program.make_context(_PROGRAM, [], resilient_parsing=True)
    return "\n".join([_INTRODUCTION, *_sections(program, context)])


def _sections(group: Any, context: Any) -> Iterator[str]:
    """A section for each command of a group, and for the commands below it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        below = type(context)(command, info_name=name, parent=context)
        yield _section(command, below)
        if hasattr(command, "list_commands"):
            yield from _sections(command, below)


def _section(command: Any, context: Any) -> str:
    """Heading, usage, what the command does, and a table for each group of options."""
    path = context.command_path.removeprefix(f"{_PROGRAM} ")
    parts = [f"## {path}\n"]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        example = re.fullmatch(r"Example: (.*)", paragraph)
        parts.append(f"```text\n{example[1]}\n```\n" if example else textwrap.fill(paragraph, 100) + "\n")
    for group in GROUPS:
        rows = [
            _row(parameter, context)
            for parameter in command.get_params(context)
            if getattr(parameter, "rich_help_panel", None) == group
        ]
        if rows:
            parts.append("\n".join([f"| {group.lower()} | |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def _row(parameter: Any, context: Any) -> str:
    """Name and help of an argument or option, as `--help` has them."""
    names, text = parameter.get_help_record(context)
    if parameter.param_type_name == "argument":
        names = parameter.metavar
    names = re.sub(r"[<\[](.*?)[>\]]$", r"\1", names).replace(
        "|", " or "
    )  # brackets differ between versions of typer
    escaped = text.replace("|", "\\|").replace("<", "&lt;")
    return f"| `{names}` | {re.sub(r'  +', ' ', escaped)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
