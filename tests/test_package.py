"""The installed wheel has all that a device needs, and nothing else.

Skipped where the checkout itself is installed.
"""

import json
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

from qprompt_runtime.bundle import DEFAULT_BACKBONE, find_bundle, read_manifest

CHECKOUT = Path(__file__).parent.parent
PACKAGES = {"qprompt_runtime", "qprompt_edge", "qprompt_exporters"}
LARGEST = 30 * 10**6
"""Bytes, before they are packed; `small` has 24 MB of them."""


@pytest.fixture(scope="module")
def installed() -> Distribution:
    found = distribution("qprompt-edge")
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("a link to the checkout is installed, no wheel")
    return found


@pytest.fixture(scope="module")
def sizes(installed: Distribution) -> dict[str, int]:
    """Bytes of each file that came with the wheel; installers add compiled modules and the command."""
    return {
        file.as_posix(): file.size or 0
        for file in installed.files or ()
        if file.suffix != ".pyc" and ".." not in file.parts
    }


def test_the_embedded_backbone_and_the_nouns_are_in_it(sizes: dict[str, int]) -> None:
    folder = f"qprompt_runtime/backbones/{DEFAULT_BACKBONE}"
    bundle = read_manifest(find_bundle(DEFAULT_BACKBONE)).files
    expected = {"qprompt_runtime/nouns.txt", *(f"{folder}/{name}" for name in ("manifest.json", *bundle))}
    assert expected <= set(sizes)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(sizes)


def test_the_page_is_in_it(sizes: dict[str, int]) -> None:
    names = {path.name for path in (CHECKOUT / "qprompt_edge" / "server" / "static").iterdir()}
    assert "index.html" in names
    assert {f"qprompt_edge/server/static/{name}" for name in names} <= set(sizes)


def test_tests_examples_and_weights_to_train_from_are_not(sizes: dict[str, int]) -> None:
    tops = {name.partition("/")[0] for name in sizes}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert not [name for name in sizes if name.endswith((".safetensors", ".qpt", ".jpg", ".png"))]
    assert sum(sizes.values()) < LARGEST


def test_licences_links_and_authors_are_in_its_metadata(
    installed: Distribution, sizes: dict[str, int]
) -> None:
    assert {"LICENSE", "LICENSE-APACHE", "NOTICE"} <= {name.rpartition("/")[2] for name in sizes}
    assert installed.metadata["Author"] == "The qprompt-edge authors"
    links = {link.partition(",")[0] for link in installed.metadata.get_all("Project-URL") or ()}
    assert {"Source", "Documentation", "Changelog", "Issues"} <= links
