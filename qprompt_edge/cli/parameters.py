"""What the commands' options have in common: one definition for each option that several commands take."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

# Members are strings too, because typer before 0.16 compares them with the option's text.


class Method(str, Enum):
    """What is tuned."""

    qcoop = "qcoop"
    qmaple = "qmaple"
    qmaple_coupled = "qmaple-coupled"


class Bits(str, Enum):
    """Bits a weight: `quantizer.BIT_WIDTHS`, and 32 for no quantizer."""

    b1 = "1"
    b2 = "2"
    b3 = "3"
    b4 = "4"
    b8 = "8"
    b32 = "32"


class Contexts(str, Enum):
    """One context for all classes, or one for each."""

    shared = "shared"
    per_class = "per-class"


class ProtocolName(str, Enum):
    """How the paper divides photos and classes between training and judging; names as in `Job.protocol`."""

    base2new = "base2new"
    few_shot = "few-shot"
    cross_dataset = "cross-dataset"
    domain = "domain"


class Precision(str, Enum):
    """How an exported bundle stores weights."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


ImagesOption = Annotated[
    Path, typer.Option("--images", help="Folder with one sub-folder of photos per class.")
]
LabelsOption = Annotated[
    Path | None,
    typer.Option("--labels", help="CSV file with the columns path,label instead of sub-folders."),
]
PromptOption = Annotated[Path, typer.Option("--prompt", help="Prompt file.")]
OwnBackboneOption = Annotated[
    str | None,
    typer.Option("--backbone", help="Backbone: a name or folder; by default the one in the prompt file."),
]
BackboneOption = Annotated[
    str, typer.Option("--backbone", help="Backbone: an installed name, or a bundle's folder.")
]
ProviderOption = Annotated[
    str, typer.Option("--provider", help="Execution provider: auto, cpu, cuda, ... ; auto says what it took.")
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", min=0, help="Threads within an operator; 0 takes one for each core.")
]
MaxMemoryOption = Annotated[
    float | None,
    typer.Option("--max-memory", min=1, help="Most resident memory, in MB; too little is an error."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
