"""Requests that schemathesis makes of the OpenAPI document: no 500, and every answer as the document says.

Runs in a session of its own (`nox -s interface`), since schemathesis brings many packages.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import serve_process

pytest.importorskip("schemathesis")

EXAMPLES = Path(__file__).parent.parent / "examples" / "photos"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method"
)
STREAMS = "(events|live)$"  # they go on


def test_made_requests_meet_no_defect(tmp_path: Path) -> None:
    for label in ("bolt", "leaf"):
        (tmp_path / "data" / "belt" / label).mkdir(parents=True)
        for path in sorted((EXAMPLES / label).iterdir())[:4]:
            shutil.copy(path, tmp_path / "data" / "belt" / label)
    scratch = tmp_path / "scratch"  # schemathesis leaves files of its own
    scratch.mkdir()
    with serve_process(tmp_path / "data") as server:
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}openapi.json",
            "--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", "8", "--seed", "1",
            "--exclude-path-regex", STREAMS, "--continue-on-failure", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert "Traceback" not in server.log
        assert server.get("/healthz").status == 200
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "data",
            "scratch",
        ]  # nothing beside the data
