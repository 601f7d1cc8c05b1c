"""Files of every format version and method, as programs of their time wrote them.

Each stays readable for ever, and is written as the same bytes.
"""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest
from make_corpus import CORPUS, cases

from qprompt_runtime.prompt_file import METHODS, PromptFile, read_prompt_file

EXPECTED = {
    name: said
    for index in sorted(CORPUS.glob("v*.json"))
    for name, said in json.loads(index.read_text(encoding="utf-8")).items()
}


def read_as(prompt: PromptFile) -> dict:
    """What was read, in the words of the corpus."""
    said = {
        "format_version": prompt.format_version,
        "method": prompt.method,
        "classes": [[name.label, name.text] for name in prompt.classes],
        "template": list(prompt.template),
        "backbone": [prompt.backbone_name, prompt.fingerprint.hex()],
        "calibration": {
            **asdict(prompt.calibration),
            "accept_scores": list(prompt.calibration.accept_scores),
        },
        "metadata": dict(prompt.metadata),
        "photos": list(prompt.photos),
        "extras": {str(key): value.hex() for key, value in prompt.extras.items()},
        "groups": [],
    }
    for group in prompt.groups:
        values = group.values()
        said["groups"].append(
            {
                "role": group.role,
                "shape": list(values.shape),
                "bits": group.bits,
                "first_values": values.ravel()[:3].tolist(),
                "values_sha256": hashlib.sha256(values.astype("<f4").tobytes()).hexdigest(),
                "scales": list(group.scales),
                "rows": list(group.rows),
            }
        )
    return said


def completed(said: dict) -> dict:
    """What is not said is empty."""
    calibration = {"accept_scores": [], "accept": None, **said["calibration"]}
    groups = [{"scales": [], "rows": [], **group} for group in said["groups"]]
    return {"photos": [], "extras": {}, **said, "calibration": calibration, "groups": groups}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_reads_as_it_was_meant(name: str) -> None:
    content, said = (CORPUS / name).read_bytes(), completed(EXPECTED[name])
    assert hashlib.sha256(content).hexdigest() == said.pop("sha256"), "a file of the corpus is never changed"
    prompt = read_prompt_file(CORPUS / name)
    assert read_as(prompt) == said
    assert prompt.to_bytes() == content
    assert all(group.values().dtype == np.float32 for group in prompt.groups)


def test_every_file_is_listed_and_they_are_small() -> None:
    assert {path.name for path in CORPUS.glob("*.qpt")} == set(EXPECTED)
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 60_000


def test_every_version_and_method_is_there() -> None:
    there = {(said["format_version"], said["method"]) for said in EXPECTED.values()}
    assert there == {(version, method) for version in (1, 2) for method in METHODS.values()} - {
        (1, "qtaskres")
    }


def test_the_present_program_writes_the_files_of_the_newest_version() -> None:
    for case in cases():
        prompt = case.prompt()
        assert (CORPUS / f"v{prompt.format_version}-{case.name}.qpt").read_bytes() == prompt.to_bytes()
