"""What a run of the command line leaves behind, and what a refusal must leave."""

import json


class Result:
    """What one run of the command line left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict:
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict]:
        """The lines of `predict --json`."""
        return [json.loads(line) for line in self.out.splitlines()]


def assert_refused(result: Result, *words: str) -> None:
    """Exit code 1, one line that says what is wrong, no traceback; the same in JSON."""
    assert result.code == 1, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in lines[0], lines[0]
    assert result.json == {"error": lines[0].removeprefix("error: ")}, result.out
