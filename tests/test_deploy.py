"""The systemd unit: its words are options that there are, and systemd finds no fault with it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT = DEPLOY / "qprompt-watch.service"


def value(name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found


def test_the_words_of_the_service_are_options_of_watch(run, tmp_path: Path):
    assert value("ExecStart").split()[1:] == ["watch", "$WATCH"]
    (line,) = re.findall(
        r"^WATCH=(.*)$", (DEPLOY / "watch.conf").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    words = line.split()
    assert words[0] == "/dev/video0"
    (tmp_path / "empty").mkdir()
    result = run("watch", tmp_path / "empty", *words[1:])
    assert result.code == 1  # the options are right, the prompt is missing
    assert "/etc/qprompt/belt.qpt: cannot be read: No such file or directory" in result.err


def test_the_loop_feeds_the_watchdog_in_time():
    assert value("Type") == "notify"
    assert int(value("WatchdogSec")) >= 30  # a hot reload on a slow board must fit in between
    assert value("Restart") == "always"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing here")
def test_systemd_finds_no_fault_and_little_exposure(tmp_path: Path):
    text = UNIT.read_text(encoding="utf-8").replace(
        "/opt/qprompt/bin/qprompt-edge", shutil.which("true") or ""
    )
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")

    def analyze(*words: object) -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", *map(str, words), str(tmp_path / UNIT.name)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    verified = analyze("verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = analyze("security", "--offline=true", "--threshold=20")
    if "unrecognized option" not in judged.stderr:  # before systemd 250
        assert judged.returncode == 0, judged.stdout[-300:]
