"""A small prompt as an object, as bytes and as CBOR fields, and the checksum that makes a file of other bytes."""

import hashlib

import numpy as np

from qprompt_runtime.prompt_file import Calibration, ClassName, PromptFile, PromptGroup

INDICES = np.array([[0, 1, 0, 1], [1, 0, 0, 1]], np.uint8)
GROUP = PromptGroup.quantized("text-context", np.array([-0.5, 0.5], np.float16), INDICES, bits=1)
TINY = PromptFile(
    method="qcoop",
    groups=(GROUP,),
    classes=(ClassName.from_label("cat"), ClassName("ok", "good weld")),
    template=("", "."),
    backbone_name="tiny",
    fingerprint=bytes(range(16)),
    calibration=Calibration(100.0),
)
TINY_HEX = """
d9d9f7 a8 0001 0101
02 81 85 00 820204 01 4400b80038 419a
03 82 63636174 82 626f6b 69676f6f642077656c64
04 82 60 612e
05 82 6474696e79 50000102030405060708090a0b0c0d0e0f
06 a1 00 f95640
08 48"""
FIELDS = {
    0: 1,
    1: 1,
    2: [[0, [2, 4], 1, bytes.fromhex("00b80038"), b"\x9a"]],
    3: ["cat", ["ok", "good weld"]],
    4: ["", "."],
    5: ["tiny", bytes(range(16))],
    6: {0: 100.0},
}


def seal(body: bytes) -> bytes:
    """A file of these bytes, up to the checksum's head, with the checksum that fits."""
    return body + hashlib.sha256(body).digest()[:8]
