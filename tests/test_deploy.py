"""The systemd units: their words are options that there are, and systemd finds no fault with them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parent.parent / "deploy"
SERVICES = ("watch", "serve", "fetch")


def value(name: str, unit: str = "qprompt-watch.service") -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", (DEPLOY / unit).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found


def test_the_words_of_the_watch_service_are_options_of_watch(run, tmp_path: Path):
    assert value("ExecStart").split()[1:] == ["watch", "$WATCH"]
    words = value("WATCH", "watch.conf").split()
    assert words[0] == "/dev/video0"
    (tmp_path / "empty").mkdir()
    result = run("watch", tmp_path / "empty", *words[1:])
    assert result.code == 1  # the options are right, the prompt is missing
    assert "/etc/qprompt/belt.qpt: cannot be read: No such file or directory" in result.err


def test_the_words_of_the_fetch_service_are_options_of_fetch(run, tmp_path: Path):
    _program, *options, last = value("ExecStart", "qprompt-fetch.service").split()
    assert (options, last) == (["fetch", "--back-off"], "$FETCH")
    words = value("FETCH", "fetch.conf").split()
    assert words[0].startswith("https://")
    words[words.index("--to") + 1] = str(tmp_path / "belt")
    result = run(*options, tmp_path / "missing", *words[1:])
    assert result.code == 1  # the options are right, the source is missing
    assert "missing cannot be read" in result.err


def test_the_loop_feeds_the_watchdog_in_time():
    assert value("Type") == "notify"
    assert int(value("WatchdogSec")) >= 30  # a hot reload on a slow board must fit in between
    assert value("Restart") == "always"


@pytest.mark.parametrize("service", SERVICES)
def test_what_was_used_is_remembered_in_a_folder_that_the_service_may_write(service: str):
    unit = f"qprompt-{service}.service"
    assert (value("User", unit), value("StateDirectory", unit)) == ("qprompt", "qprompt qprompt-edge")
    assert "XDG_STATE_HOME=/var/lib" in value("Environment", unit).split()
    assert value("ProtectSystem", unit) == "strict"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing here")
def test_systemd_finds_no_fault_and_little_exposure(tmp_path: Path):
    for unit in DEPLOY.glob("qprompt-*"):
        text = unit.read_text(encoding="utf-8")
        text = text.replace("/opt/qprompt/bin/qprompt-edge", shutil.which("true") or "")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    services = [str(tmp_path / f"qprompt-{service}.service") for service in SERVICES]

    def analyze(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)

    verified = analyze("verify", *services, str(tmp_path / "qprompt-fetch.timer"))
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = analyze("security", "--offline=true", "--threshold=20", *services)
    if "unrecognized option" not in judged.stderr:  # before systemd 250
        assert judged.returncode == 0, judged.stdout[-300:]
