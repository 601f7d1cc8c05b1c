"""Compiled libraries do nothing that we do not.

They open no socket to the internet, and no file outside of our own folders. onnxruntime has telemetry from
1.29 on. Hooks of Python cannot see what native code does, so system calls are watched.
"""

import re
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
from conftest import TINY_FOLDER
from other_machines import needs_strace, qprompt_edge

HAS_TELEMETRY = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 29)

CREATES = re.compile(
    r"\b(?:openat|open|creat|mkdir|mkdirat|mknod|rename|renameat2?|link|linkat|symlink)\((.*)"
)
PATHS = re.compile(r'"((?:[^"\\]|\\.)*)"')
NOT_FILES = ("/dev/", "/proc/")


def python(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a home of its own, with nothing said about telemetry."""
    home.mkdir()
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(home), "PYTHONPATH": ":".join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(
    "code",
    [
        "import qprompt_runtime, onnxruntime",
        "import qprompt_edge, onnxruntime",
        "from qprompt_runtime import PromptClassifier",
        "import qprompt_runtime.providers",
        "import qprompt_edge.bench",
        "import qprompt_edge.cli.app, qprompt_edge.cli.predict",
        "import qprompt_exporters, onnxruntime",
        "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'; import qprompt_edge.bench",
    ],
)
def test_it_is_off_before_onnxruntime_is_imported(code: str, tmp_path: Path) -> None:
    done = python(f"{code}\nimport os; print(os.environ['ORT_DISABLE_TELEMETRY'])", tmp_path / "home")
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("package", ["qprompt_runtime", "qprompt_edge"])
def test_who_imports_onnxruntime_first_is_told(package: str, tmp_path: Path) -> None:
    code = f"import onnxruntime\nimport {package}"
    told = "telemetry has begun" in python(code, tmp_path / "home").stderr
    assert told == HAS_TELEMETRY
    assert python(code, tmp_path / "other", ORT_DISABLE_TELEMETRY="1").stderr == ""


def calls(trace: Path) -> list[str]:
    """What was called, each call on one line, also where another thread's came in between."""
    waiting: dict[str, str] = {}
    found = []
    for line in trace.read_text(errors="replace").splitlines():
        process, _, call = line.partition(" ")
        if call.endswith("<unfinished ...>"):
            waiting[process] = call.removesuffix("<unfinished ...>")
        elif resumed := re.match(r"\s*<\.\.\. \w+ resumed>(.*)", call):
            found.append(waiting.pop(process, "") + resumed[1])
        else:
            found.append(call)
    return found


def created(call: str) -> list[str]:
    """Paths at which a call makes or changes something; whether it succeeds is another matter."""
    match = CREATES.search(call)
    if match is None or ("open" in call.split("(")[0] and not re.search(r"O_CREAT|O_WRONLY|O_RDWR", call)):
        return []
    return [path for path in PATHS.findall(match[1]) if not path.startswith(NOT_FILES)]


@needs_strace
@pytest.mark.parametrize("command", ["adapt", "predict", "backbones", "bench"])
def test_no_internet_and_no_file_outside_of_our_folders(
    command: str, photos: Path, run, tmp_path: Path
) -> None:
    home, ours, prompt = tmp_path / "home", tmp_path / "ours", tmp_path / "ours" / "made.qpt"
    home.mkdir()
    quick = ("--backbone", TINY_FOLDER, "--json")
    if command == "predict":
        assert run("adapt", photos, "--out", prompt, "--epochs", 1, "--backbone", TINY_FOLDER).code == 0
    arguments = {
        "adapt": ("adapt", photos, "--out", prompt, "--epochs", 2, *quick),
        "predict": ("predict", photos, "--prompt", prompt, *quick),
        "backbones": ("backbones", "--json"),
        "bench": ("bench", "--class-count", 2, "--repeats", 1, *quick),
    }[command]
    trace = tmp_path / "trace"
    done = qprompt_edge(
        *arguments,
        before=("strace", "-f", "-s", "4096", "-e", "trace=network,file", "-o", str(trace)),
        environment={
            "ORT_DISABLE_TELEMETRY": None,
            "HOME": str(home),
            "XDG_CACHE_HOME": None,
            "XDG_DATA_HOME": None,
            "QPE_CACHE": str(ours / "cache"),
            "QPE_BACKBONES": str(ours / "backbones"),
        },
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    watched = calls(trace)
    assert len(watched) > 100
    assert [call for call in watched if "AF_INET" in call] == []
    outside = {path for call in watched for path in created(call) if not path.startswith(str(ours))}
    assert outside == set()
    assert list(home.iterdir()) == []


def test_the_watch_sees_what_it_should() -> None:
    assert created('openat(AT_FDCWD, "/h/.cache/deviceid", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 3') == [
        "/h/.cache/deviceid"
    ]
    assert created('openat(AT_FDCWD, "/h/.cache/deviceid", O_RDONLY|O_CLOEXEC) = 3') == []
    assert created('mkdir("/h/.cache", 0700) = -1 EACCES (Permission denied)') == ["/h/.cache"]
    assert created('rename("/h/a", "/h/b") = 0') == ["/h/a", "/h/b"]
    assert created('openat(AT_FDCWD, "/dev/null", O_RDWR) = 3') == []
