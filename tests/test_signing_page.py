"""What docs/signing.md shows is what the program does, and every promise names tests that are there."""

import re
from dataclasses import replace
from pathlib import Path

from signatures import CLAIMS, key, signed

from qprompt_edge.shipping.signing import sign_manifest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "signing.md").read_text(encoding="utf-8")


def test_the_example_is_what_is_signed() -> None:
    shown = re.search(r"```hex\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    digits = "".join(re.split(r"\s{2,}\S", line.strip())[0] for line in shown[1].splitlines())
    assert bytes.fromhex(digits) == signed()


def test_the_sizes_are_those_of_the_page() -> None:
    sizes = {4: 107, 16: 127}
    rows = dict(re.findall(r"^\| (.*?) \| (\d+) \|$", PAGE, re.MULTILINE))
    assert rows["task of 4 bytes, sequence up to 23, no expiry"] == str(sizes[4])
    assert rows["task of 16 bytes, expiry, sequence up to 65,535"] == str(sizes[16])
    assert len(signed(content=bytes(469), task="t" * 16, sequence=65_535)) - 469 == sizes[16]
    detached = sign_manifest(b"{}", key(), replace(CLAIMS, task="backbone"))
    assert f"Beside a manifest, with all claims: {len(detached)} bytes." in PAGE


def test_every_promise_names_tests_that_are_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (TESTS / file).read_text(encoding="utf-8"), test
