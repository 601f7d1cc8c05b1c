"""Options that several commands share, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from qprompt_edge.cli.plain_values import taking_plain_values
from qprompt_runtime.errors import PhotosError

INPUT, TRAINING, OUTPUT, SIGNATURES, MACHINE = GROUPS = (
    "Input",
    "Training",
    "Output",
    "Signatures",
    "Machine",
)
"""The groups of options in every help, in this order."""

_OTHER = "Other"


class GroupedCommand(TyperCommand):
    """A command whose help shows its arguments and options in groups, in plain text."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and options, which take plain values."""
        return taking_plain_values(super().get_params(ctx))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line, with required arguments as plain names.

        Newer versions of typer put braces around them.
        """
        pieces: list[str] = super().collect_usage_pieces(ctx)
        return [piece.replace("{", "").replace("}", "") for piece in pieces]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the groups; what has none, such as --help, comes last."""
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in (*GROUPS, _OTHER)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                if parameter.param_type_name == "argument":
                    record = (str(parameter.metavar), record[1])
                groups[getattr(parameter, "rich_help_panel", None) or _OTHER].append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


def option(group: str, text: str, *names: str, **settings: Any) -> Any:
    """An option: its group and text in the help, its names, and typer's settings.

    Names are given only if they differ from the parameter's.
    """
    return typer.Option(*names, help=text, rich_help_panel=group, **settings)


def number(group: str, text: str, least: float, **settings: Any) -> Any:
    """An option that takes a number of at least `least`; `settings` are typer's, such as `max`."""
    return option(group, text, min=least, metavar="NUMBER", **settings)


def argument(name: str, text: str) -> Any:
    """An argument as help names it; its group is the input's."""
    return typer.Argument(metavar=name, help=text, rich_help_panel=INPUT)


PlaceArgument = Annotated[
    Path | None, argument("FOLDER", "Folder that the prompt runs from, as given to install.")
]
PlaceOption = Annotated[Path | None, option(OUTPUT, "The same folder, as an option.", metavar="FOLDER")]


def one_folder(place: Path | None, to: Path | None) -> Path:
    """The folder that prompts are installed in, given as an argument or as an option."""
    if place is not None and to is not None:
        raise typer.BadParameter("give the folder once: as FOLDER or as --to")
    folder = to if place is None else place
    if folder is None:
        raise typer.BadParameter("FOLDER is missing: the one that was given to install as --to")
    return folder


def names_in(classes: str) -> list[str]:
    """The names in `--classes a,b,c`.

    Raises:
        PhotosError: There are fewer than two, or one is given twice.
    """
    names = [name.strip() for name in classes.split(",") if name.strip()]
    if len(names) < 2 or len(set(names)) < len(names):
        raise PhotosError(
            f"--classes {classes!r}: expected at least two different names, separated by commas"
        )
    return names


Bits = Literal["1", "1.6", "2", "3", "4", "8", "32"]
"""Bits a weight: `quantizer.BIT_WIDTHS`, and 32 for no quantizer.

Spelled out, because `predict` starts without loading the quantizer.
"""


def bits_of(text: Bits | None) -> float | None:
    """The number: whole, but for 1.6; None where nothing was said."""
    return None if text is None else float(text) if "." in text else int(text)


ImagesOption = Annotated[
    Path, option(INPUT, "Folder with one sub-folder of photos per class.", metavar="FOLDER")
]
LabelsOption = Annotated[
    Path | None,
    option(INPUT, "CSV file with the columns path,label instead of sub-folders.", metavar="FILE"),
]
ClassesOption = Annotated[
    str | None, option(INPUT, "Class names that replace the prompt's own, as a,b,c.", metavar="LIST")
]
PromptOption = Annotated[Path, option(INPUT, "Prompt file to use.", metavar="FILE")]
LEAST_ACCEPT, MOST_ACCEPT = 0.8, 0.99
"""The first and the last of `prompt_file.ACCEPT_SHARES`, spelled out for the same reason."""
AcceptOption = Annotated[
    float | None,
    typer.Option(
        help='Answer "none of these" so that this share of photos of the classes keep their label; by default '
        "as the prompt says.",
        min=LEAST_ACCEPT,
        max=MOST_ACCEPT,
        metavar="NUMBER",
        rich_help_panel=INPUT,
    ),
]
OwnBackboneOption = Annotated[
    str | None,
    option(
        INPUT,
        "Backbone: an installed name (QPE_BACKBONES names their folder) or a bundle's folder; by default the "
        "one that the prompt file names.",
        metavar="NAME",
    ),
]
BackboneOption = Annotated[
    str,
    option(
        INPUT,
        "Backbone: an installed name (QPE_BACKBONES names their folder) or a bundle's folder.",
        metavar="NAME",
    ),
]
ReportOption = Annotated[
    Path | None,
    option(
        OUTPUT,
        "HTML file to write a report to: the verdict, the accuracies, the mistakes as pictures, all in one page.",
        metavar="FILE",
    ),
]
ForceOption = Annotated[
    bool,
    option(OUTPUT, "Replace the file even if it holds something else.", "--force"),
]
JsonOption = Annotated[bool, option(OUTPUT, "Print JSON on stdout, everything else on stderr.", "--json")]
InstallFolderOption = Annotated[
    Path,
    option(OUTPUT, "Folder that the prompt runs from, as prompt.qpt.", "--to", metavar="FOLDER"),
]
CanaryOption = Annotated[
    Path | None,
    option(
        INPUT,
        "Folder with one sub-folder of this device's photos per class; a prompt that is worse on them is refused.",
        "--canary",
        metavar="FOLDER",
    ),
]
PolicyOption = Annotated[
    Literal["off", "warn", "enforce"] | None,
    option(
        SIGNATURES,
        "What happens to prompts that are not signed as they should be; tightens what the policy file says, never loosens it.",
    ),
]
TrustOption = Annotated[
    Path | None,
    option(
        SIGNATURES,
        "Public key, or folder of them, whose signatures count; given alone, it means --policy enforce.",
        metavar="PLACE",
    ),
]
TaskOption = Annotated[
    str | None,
    option(
        SIGNATURES,
        "Task that the prompt must be signed for; given alone, it means --policy enforce.",
        metavar="NAME",
    ),
]
KeyOption = Annotated[
    Path | None,
    option(
        SIGNATURES,
        "Private key that signs the prompt; by default the device_key of the policy file, if there is one.",
        "--key",
        metavar="FILE",
    ),
]
MadeForOption = Annotated[
    str | None,
    option(
        SIGNATURES,
        "Task that the prompt is signed for; by default that of PROMPT, or the only one in the policy file.",
        "--task",
        metavar="NAME",
    ),
]
ProviderOption = Annotated[
    str,
    option(
        MACHINE,
        "Execution provider of onnxruntime: cpu, cuda, ...; auto takes CUDA where it is available.",
        metavar="NAME",
    ),
]
ThreadsOption = Annotated[
    int,
    number(MACHINE, "Threads; 0 takes one for each core that the process may use.", 0),
]
MaxMemoryOption = Annotated[
    float | None,
    number(MACHINE, "Limit on resident memory, in MB; an error if it cannot be kept.", 1),
]
