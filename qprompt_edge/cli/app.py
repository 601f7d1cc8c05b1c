"""The commands, put together; a command's module is imported when the command is called, or its help is shown."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

_MODULES = {
    "adapt": "adapt",
    "predict": "predict",
    "eval": "evaluate",
    "inspect": "inspect",
    "convert": "convert",
    "reproduce": "reproduce",
    "export": "export",
    "bench": "bench",
    "backbones": "backbones",
}
"""Each command's module in this package, in the order of the help; it holds `command`, or a group, `app`."""

_STYLE: dict[str, Any] = {
    "rich_markup_mode": "markdown",
    "add_completion": False,
    "pretty_exceptions_enable": False,
}


class _Commands(TyperGroup):
    """Imports a command's module in its turn: `predict` needs none of what `reproduce` needs."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None; typer suggests another then."""
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"qprompt_edge.cli.{_MODULES[cmd_name]}")
        group = getattr(module, "app", None)
        if group is None:
            group = typer.Typer(**_STYLE)
            group.command(cmd_name)(module.command)
        command = typer.main.get_command(group)
        command.name = cmd_name
        return command


def _later() -> None:
    """Hold the place of a command that is not imported yet."""


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    help="Adapt a frozen CLIP to your own classes on the device itself: photos in, a prompt file of a few "
    "hundred bytes out. `adapt` makes the file, `predict` uses it, `eval` judges it.",
    **_STYLE,
)
for _name in _MODULES:
    app.command(_name)(_later)
