"""All commands; a command's module is imported when the command is called or its help is shown."""

from __future__ import annotations

import gc
import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from qprompt_edge.cli.output import show
from qprompt_edge.cli.parameters import GroupedCommand
from qprompt_edge.cli.plain_values import taking_plain_values

_MODULES = {
    "adapt": "adapt",
    "check": "check",
    "update": "update",
    "merge": "merge",
    "predict": "predict",
    "eval": "evaluate",
    "inspect": "inspect",
    "convert": "convert",
    "bake": "bake",
    "watch": "watch",
    "reproduce": "reproduce",
    "export": "export",
    "bench": "bench",
    "backbones": "backbones",
    "serve": "serve",
    "keygen": "keygen",
    "sign": "sign",
    "verify": "verify",
    "revoke": "revoke",
    "install": "install",
    "fetch": "fetch",
    "rollback": "rollback",
    "status": "status",
}
"""Each command's module in this package, in the order of the help; it holds `command`, or a group, `app`."""

_HELP_WIDTH = 100


class _Commands(TyperGroup):
    """Imports a command's module in its turn: `predict` needs none of what `reproduce` needs."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Options of the program itself, which take plain values."""
        return taking_plain_values(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None; typer suggests another then."""
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"qprompt_edge.cli.{_MODULES[cmd_name]}")
        group = getattr(module, "app", None)
        if group is None:
            group = typer.Typer(add_completion=False, rich_markup_mode=None)
            group.command(cmd_name, cls=GroupedCommand)(module.command)
        command = typer.main.get_command(group)
        command.name = cmd_name
        if not gc.isenabled():  # so `main` starts
            gc.freeze()  # modules stay
            gc.enable()
        return command


def _later() -> None:
    """Hold the place of a command that is not imported yet."""


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: it starts faster, and reads as well in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _HELP_WIDTH},
    epilog="Environment: QPE_BACKBONES is the folder of added backbones, QPE_CACHE the folder for caches and "
    "checkpoints; QPE_PRECISION (auto, float, int8) says which image tower runs, where a backbone has two; "
    "QPE_POLICY, QPE_TRUST and QPE_POLICY_FILE tighten the policy for signed prompts. Results go to "
    "stdout, messages and progress to stderr.",
)
for _name in _MODULES:
    app.command(_name)(_later)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # takes longer than the whole command line

        show(f"qprompt-edge {version('qprompt-edge')}")
        raise typer.Exit


@app.callback()
def _program(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Adapt a frozen CLIP to your own classes on the device itself: photos in, a prompt file out.

    `adapt` makes the file, of a few hundred bytes; `update` adds a class; `predict` uses it, `eval` judges
    it. COMMAND --help says more.

    Example: qprompt-edge adapt ./photos --out belt.qpt
    """
