"""What the commands' options have in common: one definition for each option that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PATH = click.Path(path_type=Path)


def path_option(name: str, text: str, **settings: Any) -> Decorator:
    """An option that takes a file or a folder; None if it is not given and `settings` (as click's) have no default."""
    return click.option(name, type=PATH, help=text, **settings)


def number_option(
    name: str, kind: type[int] | type[float], text: str, least: float, **settings: Any
) -> Decorator:
    """An option that takes a number of at least `least`; `settings` are click's, and `max`, the largest that is taken."""
    limits = {"min": least, "max": settings.pop("max", None)}
    wanted: Any = click.IntRange(**limits) if kind is int else click.FloatRange(**limits)
    return click.option(name, type=wanted, metavar="NUMBER", help=text, **settings)


def bits_option(text: str, **settings: Any) -> Decorator:
    """The option for bits a weight, whose choices are texts; `settings` are click's."""
    from qprompt_edge.tuning.quantizer import BIT_WIDTHS, UNQUANTIZED_BITS  # `predict` starts without it

    widths = click.Choice([str(bits) for bits in (*BIT_WIDTHS, UNQUANTIZED_BITS)])
    return click.option("--bits", type=widths, help=text, **settings)


images_option = path_option("--images", "Folder with one sub-folder of photos per class.", required=True)
labels_option = path_option("--labels", "CSV file with the columns path,label instead of sub-folders.")
prompt_option = path_option("--prompt", "Prompt file.", default="prompt.qpt")
own_backbone_option = click.option(
    "--backbone", help="Backbone: a name or folder; by default the one in the prompt file."
)
backbone_option = click.option(
    "--backbone", default="tiny", help="Backbone: an installed name, or a bundle's folder."
)
provider_option = click.option(
    "--provider", default="auto", help="Execution provider: auto, cpu, cuda, ... ; auto says what it took."
)
threads_option = number_option(
    "--threads", int, "Threads within an operator; 0 takes one for each core.", 0, default=0
)
max_memory_option = number_option(
    "--max-memory", float, "Most resident memory, in MB; too little is an error.", 1
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
