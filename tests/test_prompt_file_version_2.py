"""What format version 2 brought.

Each fault of residuals, scores, photos and keys has one clear error. Version 1 has none of these fields.
"""

import dataclasses

import numpy as np
import pytest
from prompts import FIELDS, FULL, FULL_FIELDS, FULL_HEX, INDICES, INF16, NAN16, TINY, TINY_1, forge, seal

from qprompt_runtime.errors import PromptFileError
from qprompt_runtime.packing import TERNARY
from qprompt_runtime.prompt_file import PromptFile, PromptGroup

HALVES = bytes.fromhex("003c0042")


def residuals(place: int, **changes: object) -> dict:
    """The groups' field of `FULL`, with parts of one group changed, or of both (place -1)."""
    names = ["role", "shape", "bits", "codebook", "data", "scales", "rows"]
    return {
        2: [
            [
                changes.get(name, value) if place in (-1, at) else value
                for name, value in zip(names, full, strict=True)
            ]
            for at, full in enumerate(FULL_FIELDS[2])
        ]
    }


def scores(*changed: object, accept: object = None) -> dict:
    return {6: {0: 1.0, 1: list(changed), **({} if accept is None else {2: accept})}}


GOOD_SCORES = (1, 0.5, 0.25, 0.25, 0.125, -0.5)
FAULTS_OF_2 = {
    "residuals alone": ({2: FULL_FIELDS[2][:1]}, "roles of a qtaskres prompt"),
    "offsets first": ({2: FULL_FIELDS[2][::-1]}, "roles of a qtaskres prompt"),
    "context for qtaskres": (residuals(0, role=0), "roles of a qtaskres prompt"),
    "residuals of one dimension": (
        residuals(0, shape=[8], scales=b"", rows=[]),
        "shapes of a qtaskres prompt",
    ),
    "residuals of three dimensions": (residuals(0, shape=[2, 2, 2]), "shapes of a qtaskres prompt"),
    "offsets of two dimensions": (residuals(1, shape=[2, 1]), "shapes of a qtaskres prompt"),
    "fewer offsets": (residuals(1, shape=[1], data=bytes(2), rows=[0]), "shapes of a qtaskres prompt"),
    "quantized offsets": (
        residuals(1, bits=1, codebook=HALVES, data=b"\0"),
        "class offsets' bits is 1, expected 16",
    ),
    "offsets of 32 bits": (residuals(1, bits=32, data=bytes(8)), "class offsets' bits is 32, expected 16"),
    "offset infinite": (residuals(1, data=bytes(2) + INF16), "finite numbers"),
    "scaled offsets": (residuals(1, scales=HALVES), "row scales at 16 bits is 2, expected none"),
    "other rows": (residuals(1, rows=[0, 1]), "rows of the class offsets is .0, 1., expected that of"),
    "no rows": (residuals(-1, rows=[]), "count of class residuals is 2, expected 3 rows"),
    "rows of one": (residuals(0, rows=[0]), "count of rows is 1, expected 0 or 2"),
    "row of no class": (residuals(-1, rows=[0, 3]), "class of a row is .3,., expected below 3"),
    "huge row": (residuals(-1, rows=[0, 2**64 - 1]), "expected below 3"),
    "row twice": (residuals(-1, rows=[2, 2]), "indices of classes in ascending order"),
    "rows descending": (residuals(-1, rows=[2, 0]), "indices of classes in ascending order"),
    "row is text": (residuals(-1, rows=["0", "2"]), "row's class is of type str, expected int"),
    "rows are bytes": (residuals(-1, rows=b"\0\2"), "rows is of type bytes, expected list"),
    "all rows named": (residuals(-1, rows=[0, 1]) | {3: ["a", "b"], 16: None}, "one encoding"),
    "scales are a list": (residuals(0, scales=[1.0, 3.0]), "row scales is of type list, expected bytes"),
    "odd scales": (residuals(0, scales=HALVES[:3]), "row scales's byte count is 3, expected an even number"),
    "one scale": (residuals(0, scales=HALVES[:2]), "count of row scales is 1, expected 0 or 2"),
    "scale NaN": (residuals(0, scales=HALVES[:2] + NAN16), "row scales is .*, expected finite float16"),
    "scale infinite": (residuals(0, scales=HALVES[:2] + INF16), "row scales is .*, expected finite float16"),
    "scales of more rows than there may be": (
        residuals(0, shape=[100_001, 1], scales=bytes(200_002)),
        "byte count is 200002, expected up to 200000",
    ),
    "scales of plain residuals": (
        residuals(0, bits=16, codebook=b"", data=bytes(16)),
        "row scales at 16 bits is 2, expected none",
    ),
    "no word before the class": ({4: [" . ", "."]}, "template's start is ' . ', expected a word"),
    "one score": (scores(1, 0.5), "accept scores is 2, expected 6"),
    "no scores": (scores(), "accept scores is 0, expected 6"),
    "six scores": (scores(*GOOD_SCORES, -0.75), "accept scores is 7, expected 6"),
    "kind 2": (
        scores(2, *GOOD_SCORES[1:]),
        "kind of the accept scores is 2, expected 1; update qprompt-edge",
    ),
    "kind 2 of another length": (scores(2, 0.5), "kind of the accept scores is 2, expected 1; update"),
    "kind is a float": (scores(1.0, *GOOD_SCORES[1:]), "kind of the accept scores is of type float"),
    "scores are a number": ({6: {0: 1.0, 1: 0.5}}, "accept scores is of type float, expected list"),
    "whole score": (scores(*GOOD_SCORES[:5], 0), "accept score is of type int, expected float"),
    "score NaN": (scores(*GOOD_SCORES[:5], float("nan")), "accept scores is .* float16 numbers"),
    "score infinite": (scores(1, float("inf"), *GOOD_SCORES[2:]), "accept scores is .* float16 numbers"),
    "score of more than half precision": (
        scores(1, 0.51, *GOOD_SCORES[2:]),
        "accept scores is .* float16 numbers",
    ),
    "huge score": (scores(1, 1e300, *GOOD_SCORES[2:]), "accept scores is .* float16 numbers"),
    "rising scores": (scores(1, 0.25, 0.5, 0.25, 0.25, 0.25), "none larger than the one before"),
    "accept alone": ({6: {0: 1.0, 2: 0.95}}, "accepted is 0.95, expected none without accept scores"),
    "accept too low": (scores(*GOOD_SCORES, accept=0.79), "accepted is 0.79, expected 0.8 to 0.99"),
    "accept too high": (scores(*GOOD_SCORES, accept=0.991), "accepted is 0.991, expected 0.8 to 0.99"),
    "accept NaN": (scores(*GOOD_SCORES, accept=float("nan")), "accepted is nan, expected 0.8 to 0.99"),
    "accept is whole": (scores(*GOOD_SCORES, accept=1), "accepted is of type int, expected float"),
    "calibration key of text": ({6: {0: 1.0, "a": 1.0}}, "calibration's keys"),
    "no photos": ({16: []}, "one encoding"),
    "photos of two classes": ({16: [1, 2]}, r"photos' numbers is 2, expected one a class \(3\)"),
    "photos are bytes": ({16: b"\1\2\3"}, "photos a class is of type bytes, expected list"),
    "half a photo": ({16: [1, 2, 0.5]}, "count of photos is of type float, expected int"),
    "too many photos": (
        {16: [1, 2, 2**31 + 1]},
        "photos a class is .*, expected whole numbers of 0 to 2147483648",
    ),
    "optional key of a number": ({22: 1}, "value of key 22 is of type int, expected bytes"),
    "optional key of text": ({17: "a"}, "value of key 17 is of type str, expected bytes"),
}


@pytest.mark.parametrize("key", range(8, 16))
def test_critical_keys_are_refused(key: int) -> None:
    with pytest.raises(PromptFileError, match=f"critical key {key}, .* update qprompt-edge"):
        PromptFile.from_bytes(forge({key: b""}))


@pytest.mark.parametrize("key", range(17, 23))
def test_optional_keys_are_kept(key: int) -> None:
    data = forge({key: b"later"})
    prompt = PromptFile.from_bytes(data)
    assert prompt.extras == {key: b"later"}
    assert prompt.to_bytes() == data
    assert dataclasses.replace(prompt, metadata={"a": "b"}).to_bytes() == forge(
        {key: b"later", 7: {"a": "b"}}
    )


@pytest.mark.parametrize("fault", FAULTS_OF_2)
def test_faults_of_version_2(fault: str) -> None:
    changes, message = FAULTS_OF_2[fault]
    assert PromptFile.from_bytes(forge({}, FULL_FIELDS)) == FULL
    with pytest.raises(PromptFileError, match=message):
        PromptFile.from_bytes(forge(changes, FULL_FIELDS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({6: {0: 1.0, 1: 0.5}}, "threshold .* this version does not apply; update qprompt-edge"),
        ({6: FULL_FIELDS[6]}, "threshold .* this version does not apply; update qprompt-edge"),
        ({6: {0: 1.0, 2: 0.95}}, "calibration's keys is .0, 2., expected 0 alone"),
        (
            {key: FULL_FIELDS[key] for key in (1, 2, 3, 4)},
            "version 1 does not hold the method qtaskres; make",
        ),
    ],
)
def test_version_1_holds_nothing_of_version_2(changes: dict, message: str) -> None:
    with pytest.raises(PromptFileError, match=message):
        PromptFile.from_bytes(forge(changes, FIELDS, 1))


def test_a_prompt_of_version_1_refuses_what_its_file_cannot_hold() -> None:
    with pytest.raises(
        PromptFileError, match="does not hold the method qtaskres, accept scores, photos a class, optional"
    ):
        dataclasses.replace(FULL, format_version=1)
    three = PromptGroup.quantized("text-context", np.zeros(3, np.float16), INDICES, TERNARY)
    with pytest.raises(PromptFileError, match="does not hold codebooks of three"):
        dataclasses.replace(TINY_1, groups=(three,))
    with pytest.raises(PromptFileError, match=r"does not hold photos a class; .* \(format_version=2\)"):
        dataclasses.replace(TINY_1, photos=(1, 2))
    for version in (0, 3, True):
        with pytest.raises(PromptFileError, match=f"format version is {version}, expected 1 or 2"):
            dataclasses.replace(TINY, format_version=version)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("14 42ff00\n17 48", "14 5802ff00\n17 48", "one encoding"),  # a long length in an optional key
        ("14 42ff00\n17 48", "14 42ff00 14 42ff00\n17 48", "one encoding"),  # an optional key twice
        (
            "10 83 10 00 19012c\n14 42ff00",
            "14 42ff00\n10 83 10 00 19012c",
            "one encoding",
        ),  # keys out of order
        ("01 f93800", "01 fa3f000000", "one encoding"),  # a score of single precision
        ("14 42ff00", "14 5bffffffffffffffff", "declared length is 18446744073709551615"),
        ("10 83 10 00 19012c", "10 9bffffffffffffffff", "declared count of items is 18446744073709551615"),
    ],
)
def test_faults_of_encoding_of_version_2(old: str, new: str, message: str) -> None:
    assert old in FULL_HEX
    body = FULL_HEX.replace(old, new)
    if new.startswith("14 42ff00 14"):
        body = body.replace("d9d9f7 ab", "d9d9f7 ac")
    with pytest.raises(PromptFileError, match=message):
        PromptFile.from_bytes(seal(bytes.fromhex(body)))
