"""The commands, put together; a command's module is imported when the command is called, or its help is shown."""

from __future__ import annotations

import importlib

import click

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
"""Each command's module in this package, in the order of the help; its `command` is the command."""

_HELP_WIDTH = 100


class _Commands(click.Group):
    """Imports a command's module in its turn: `predict` needs none of what `reproduce` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        if cmd_name not in _MODULES:
            return None
        command: click.Command = importlib.import_module(f"qprompt_edge.cli.{_MODULES[cmd_name]}").command
        return command


app = _Commands(
    commands={name: click.Command(name) for name in _MODULES},  # what click suggests for a misspelled name
    no_args_is_help=True,
    help="Adapt a frozen CLIP to your own classes on the device itself: photos in, a prompt file of a few "
    "hundred bytes out. `adapt` makes the file, `predict` uses it, `eval` judges it.",
    context_settings={"show_default": True, "max_content_width": _HELP_WIDTH},
)
