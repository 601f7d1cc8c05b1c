"""The commands, put together."""

from __future__ import annotations

import typer

from qprompt_edge.cli import adapt, backbones, bench, convert, evaluate, export, inspect, predict, reproduce

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Adapt a frozen CLIP to your own classes on the device itself: photos in, a prompt file of a few "
    "hundred bytes out. `adapt` makes the file, `predict` uses it, `eval` judges it.",
)
app.command("adapt")(adapt.command)
app.command("predict")(predict.command)
app.command("eval")(evaluate.command)
app.command("inspect")(inspect.command)
app.command("convert")(convert.command)
app.command("reproduce")(reproduce.command)
app.command("export")(export.command)
app.command("bench")(bench.command)
app.add_typer(backbones.app, name="backbones")
