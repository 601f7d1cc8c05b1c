"""Small prompts as objects, as bytes and as CBOR fields, and the checksum that makes a file of other bytes.

`TINY` has what every prompt has and `TINY_1` is the same in format version 1; `FULL` has everything that
version 2 can hold.
"""

import dataclasses
import hashlib

import cbor2
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
TINY_1 = dataclasses.replace(TINY, format_version=1)
FULL = dataclasses.replace(
    TINY,
    method="qtaskres",
    groups=(
        PromptGroup.quantized(
            "class-residuals",
            np.array([-0.5, 0.5], np.float16),
            INDICES,
            1,
            np.array([1, 3], np.float16),
            (0, 2),
        ),
        PromptGroup.plain("class-offsets", np.array([0, 0.25], np.float16), (0, 2)),
    ),
    classes=(*TINY.classes, ClassName.from_label("dog")),
    template=("a photo of a", "."),
    calibration=Calibration(100.0, (0.5, 0.25, 0.25, 0.125, -0.5), 0.95),
    metadata={"by": "me"},
    photos=(16, 0, 300),
    extras={20: b"\xff\x00"},
)
TINY_HEX = """
d9d9f7 a8 0002 0101
02 81 85 00 820204 01 4400b80038 419a
03 82 63636174 82 626f6b 69676f6f642077656c64
04 82 60 612e
05 82 6474696e79 50000102030405060708090a0b0c0d0e0f
06 a1 00 f95640
17 48"""
TINY_1_HEX = TINY_HEX.replace("0002 0101", "0001 0101").replace("17 48", "08 48")
FULL_HEX = """
d9d9f7 ab 0002 0104
02 82 87 03 820204 01 4400b80038 419a 44003c0042 820002
      87 04 8102 10 40 4400000034 40 820002
03 83 63636174 82 626f6b 69676f6f642077656c64 63646f67
04 82 6c612070686f746f206f662061 612e
05 82 6474696e79 50000102030405060708090a0b0c0d0e0f
06 a3 00 f95640 01 86 01 f93800 f93400 f93400 f93000 f9b800 02 fb3fee666666666666
07 a1 626279 626d65
10 83 10 00 19012c
14 42ff00
17 48"""
PROMPTS = {"tiny": (TINY, TINY_HEX), "version 1": (TINY_1, TINY_1_HEX), "full": (FULL, FULL_HEX)}
CHECKSUM_KEYS = {1: 8, 2: 23}
NAN16, INF16 = b"\x00\x7e", b"\x00\x7c"
FIELDS = {
    0: 2,
    1: 1,
    2: [[0, [2, 4], 1, bytes.fromhex("00b80038"), b"\x9a"]],
    3: ["cat", ["ok", "good weld"]],
    4: ["", "."],
    5: ["tiny", bytes(range(16))],
    6: {0: 100.0},
}
FULL_FIELDS = {
    0: 2,
    1: 4,
    2: [
        [3, [2, 4], 1, bytes.fromhex("00b80038"), b"\x9a", bytes.fromhex("003c0042"), [0, 2]],
        [4, [2], 16, b"", bytes.fromhex("00000034"), b"", [0, 2]],
    ],
    3: ["cat", ["ok", "good weld"], "dog"],
    4: ["a photo of a", "."],
    5: ["tiny", bytes(range(16))],
    6: {0: 100.0, 1: [1, 0.5, 0.25, 0.25, 0.125, -0.5], 2: 0.95},
    7: {"by": "me"},
    16: [16, 0, 300],
    20: b"\xff\x00",
}


def seal(body: bytes) -> bytes:
    """A file of these bytes, up to the checksum's head, with the checksum that fits."""
    return body + hashlib.sha256(body).digest()[:8]


def forge(changes: dict, fields: dict = FIELDS, version: int = 2) -> bytes:
    """A file of other fields and a checksum that fits; None removes a field."""
    changed = {**fields, **changes, 0: version, CHECKSUM_KEYS[version]: bytes(8)}
    changed = {key: value for key, value in changed.items() if value is not None}
    return seal(b"\xd9\xd9\xf7" + cbor2.dumps(changed, canonical=True)[:-8])
