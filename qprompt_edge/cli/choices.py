"""The choices that options offer."""

from __future__ import annotations

from enum import Enum

from qprompt_edge.methods import qcoop
from qprompt_edge.quantizer import BIT_WIDTHS, UNQUANTIZED_BITS

Method = Enum("Method", {qcoop.NAME: qcoop.NAME})
Bits = Enum("Bits", {f"b{bits}": str(bits) for bits in (*BIT_WIDTHS, UNQUANTIZED_BITS)})
Contexts = Enum("Contexts", {"shared": "shared", "per_class": "per-class"})
Precision = Enum("Precision", {name: name for name in ("fp32", "fp16", "int8")})
