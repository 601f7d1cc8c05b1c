"""The choices that options offer. Members are strings too, because typer before 0.16 compares them with the option's text."""

from __future__ import annotations

from enum import Enum


class Method(str, Enum):
    """What is tuned."""

    qcoop = "qcoop"


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


class Precision(str, Enum):
    """How an exported bundle stores weights."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"
