"""The device side on its own architecture: emulated aarch64, beside the same on this machine.

    python -m benchmarks.aarch64 [--folder dist/aarch64] [--bits 1]

Needs Debian or Ubuntu on x86-64 with `apt-get` and `dpkg-deb` (no root; the system is not changed), a
network for their and pip's configured sources, and this package's dependencies in the Python that runs it.
Everything goes below `--folder` (about 900 MB) and is fetched once: the distribution's arm64 Python,
`qemu-aarch64-static` if it is not on the path, and this checkout's wheel with ready-made aarch64 wheels of
its dependencies, installed as docs/devices.md says for a device without a network. Nothing is compiled.

Both sides tune the default backbone on examples/photos with one thread and `--max-memory 512`. The run fails
if the emulated side does not end; if one of its processes needs more than 512 MB (the kernel refuses more,
and the peak of resident memory is measured, the emulator included); if its accuracy on the hold-out, tuned or
zero-shot, differs by more than one point; or if its prompt file gives more than one photo in a hundred
another label here than there. The last line has all figures in JSON. Emulation takes about an hour; its
times say nothing about a board.

The hold-out has 48 photos, so one photo is two points, and a 1-bit quantizer amplifies rounding: on one
x86-64 machine, `adapt` with and without `--max-memory` differed by up to three photos. If only the tuned
accuracy fails, compare with `--bits 32`: without the quantizer it was the same for every seed tried.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.bundles import DEFAULT

CHECKOUT = Path(__file__).resolve().parents[1]
PHOTOS = CHECKOUT / "examples" / "photos"
LIMIT_MB = 512
TOLERANCE = 0.01
ONNXRUNTIME = "onnxruntime==1.22.1"
"""The newest that was seen to load in the emulator (qemu 7.2); 1.31.1 crashes there at import."""
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
PROBE = (
    "import json, platform, onnxruntime; print(json.dumps({'machine': platform.machine(), 'libc': "
    "platform.libc_ver()[1],'python': platform.python_version(), 'onnxruntime': onnxruntime.__version__}))"
)


@dataclass(frozen=True)
class Side:
    """What one machine did.

    Attributes:
        versions: Machine, C library, Python and onnxruntime.
        adapted: Accuracy on the hold-out with the tuned prompt.
        zero_shot: Accuracy on the hold-out before.
        eval_top1: Accuracy of `eval` on all photos, those of the training included.
        seconds: Wall time of each command.
        peak_mb: Peak resident memory of each command's process, in MB of 10^6 bytes.
    """

    versions: dict[str, str]
    adapted: float
    zero_shot: float
    eval_top1: float
    seconds: dict[str, float]
    peak_mb: dict[str, float]


class Machine:
    """A Python that has the package, and a folder of its own to run it in.

    Args:
        python: The command that starts the Python.
        work: Folder for what it writes; emptied, so that no cache and no checkpoint is reused.
        packages: Folder that the Python imports from first.
    """

    def __init__(self, python: list[str], work: Path, packages: Path) -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self.python, self.work = python, work
        self.environment = {
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(packages),
            "OPENBLAS_NUM_THREADS": "1",
            "QPE_CACHE": str(work / "cache"),
            "QPE_BACKBONES": str(work / "backbones"),
        }
        self.prompt = work / "belt.qpt"
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    def run(self, name: str, *arguments: str) -> str:
        """Standard output of the Python with these arguments; its time and memory are kept under `name`."""
        print(f"  {self.work.name}: {name}", flush=True)
        output, errors = self.work / f"{name}.out", self.work / f"{name}.err"
        started = time.perf_counter()
        with output.open("wb") as out, errors.open("wb") as err:
            # in its own folder: the checkout must not be what `-m` imports
            process = subprocess.Popen(
                [*self.python, *arguments], cwd=self.work, env=self.environment, stdout=out, stderr=err,
                preexec_fn=limit_data,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds[name] = round(time.perf_counter() - started, 1)
        self.peak_mb[name] = round(usage.ru_maxrss * 1024 / 1e6, 1)
        if process.returncode:
            last = errors.read_text(errors="replace").strip().splitlines()[-1:]
            raise SystemExit(f"{name} on {self.work.name} ended with {process.returncode}: {' '.join(last)}")
        return output.read_text()

    def command(self, name: str, *arguments: str) -> str:
        """Standard output of a `qprompt-edge` command, its name first."""
        options = ("--json", "--threads", "1", "--max-memory", str(LIMIT_MB))
        return self.run(name, "-m", "qprompt_edge", name.split("-")[0], *arguments, *options)

    def labels(self, name: str, prompt: Path) -> dict[str, str]:
        """The label that `predict` gives each of the example photos."""
        output = self.command(name, str(PHOTOS), "--prompt", str(prompt))
        rows = [json.loads(line) for line in output.splitlines()]
        return {row["image"]: row["predictions"][0]["label"] for row in rows}

    def tune(self, bits: int) -> Side:
        """Tune a prompt on the example photos, with so many bits a weight, and judge it."""
        versions = json.loads(self.run("import", "-c", PROBE))
        options = ("--images", str(PHOTOS), "--out", str(self.prompt), "--bits", str(bits))
        adapted = json.loads(self.command("adapt", *options))
        judged = json.loads(self.command("eval", "--images", str(PHOTOS), "--prompt", str(self.prompt)))
        return Side(
            versions=versions,
            adapted=adapted["holdout"]["adapted"]["top1"],
            zero_shot=adapted["holdout"]["zero_shot"]["top1"],
            eval_top1=judged["top1"],
            seconds=self.seconds,
            peak_mb=self.peak_mb,
        )


def limit_data() -> None:
    """Let this process allocate no more than the limit, touched or not."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_MB * 10**6, LIMIT_MB * 10**6))


def run(*command: str | Path) -> str:
    """Standard output of a command, or one line that says which one failed."""
    done = subprocess.run(
        [str(c) for c in command], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = " ".join((done.stderr or done.stdout).strip().splitlines()[-1:])
        raise SystemExit(f"{' '.join(map(str, command[:4]))} ... ended with {done.returncode}: {last}")
    return done.stdout


def unpack(packages: list[str], architecture: str, folder: Path, into: Path) -> None:
    """Unpack packages of the configured apt sources and what they depend on; nothing is installed.

    `architecture` is Debian's word, such as arm64; `folder` is where apt keeps its lists and downloads, apart
    from the system's; `into` becomes the root of the files.
    """
    state = folder / f"apt-{architecture}"
    archives = state / "archives"
    for needed in (state / "lists" / "partial", archives / "partial"):
        needed.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()  # as if nothing were installed, so that every dependency is fetched
    options = (
        f"APT::Architecture={architecture}",
        f"APT::Architectures={architecture}",
        f"Dir::State={state}",
        f"Dir::State::status={state / 'status'}",
        f"Dir::Cache={state}",
        "APT::Sandbox::User=",
        "Debug::NoLocking=1",
    )
    apt = ["apt-get", "-qq", *(f"-o{option}" for option in options)]
    run(*apt, "update")
    run(*apt, "--no-install-recommends", "--download-only", "-y", "install", *packages)
    part = into.with_name(f"{into.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "usr" / "lib").mkdir(parents=True)
    (part / "lib").symlink_to("usr/lib")  # newer packages leave this link to one that is not unpacked
    for archive in sorted(archives.glob("*.deb")):
        run("dpkg-deb", "-x", archive, part)
    part.rename(into)


def emulated_python(folder: Path) -> list[str]:
    """The command that starts the distribution's arm64 Python in the emulator."""
    root, tools = folder / "root", folder / "qemu"
    if not root.exists():
        # every Debian has libstdc++, since apt needs it; onnxruntime does not bring its own
        unpack(["python3", "libstdc++6"], "arm64", folder, root)
    qemu = shutil.which("qemu-aarch64-static")
    if qemu is None:
        if not tools.exists():
            unpack(["qemu-user-static"], "amd64", folder, tools)
        qemu = str(tools / "usr" / "bin" / "qemu-aarch64-static")
    return [qemu, "-L", str(root), str(root / "usr" / "bin" / "python3")]


def install_wheels(folder: Path, version: str) -> list[str]:
    """Install our wheel and its dependencies for aarch64; return each wheel's name, version and tags."""
    own, wheels, site = folder / "own", folder / "wheels", folder / "site"
    for emptied in (own, site):
        shutil.rmtree(emptied, ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", own, ".")
    (wheel,) = own.glob("*.whl")
    (wheels / wheel.name).unlink(missing_ok=True)  # pip would take its copy of an earlier run for this one
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    target += [f"--platform={name}" for name in PLATFORMS]
    run(*pip, "download", "--dest", wheels, *target, ONNXRUNTIME, wheel)
    offline = (*pip, "install", "--no-index", "--find-links", wheels, "--no-compile")
    run(*offline, "--target", site, *target, ONNXRUNTIME, wheel)
    run(*offline, "--target", own / "unpacked", "--no-deps", wheel)  # for the comparison: the same code
    found = []
    for installed in importlib.metadata.distributions(path=[str(site)]):
        tags = [line[5:] for line in (installed.read_text("WHEEL") or "").splitlines() if line[:4] == "Tag:"]
        found.append(f"{installed.metadata['Name']} {installed.version} {' '.join(tags)}")
    return sorted(found, key=str.lower)


def judge(host: Side, device: Side, same_prompt: float) -> list[str]:
    """What the emulated side fails, a line each; `same_prompt` is the share of photos that agree."""
    failures = []
    if device.versions["machine"] != "aarch64":
        failures.append(f"the emulated Python says it runs on {device.versions['machine']}, not aarch64")
    for what in ("adapted", "zero_shot"):
        here, there = getattr(host, what), getattr(device, what)
        if abs(here - there) > TOLERANCE:
            failures.append(f"{what} accuracy is {there:.1%} on aarch64 and {here:.1%} on this machine")
    if same_prompt < 1 - TOLERANCE:
        failures.append(f"with the same prompt file only {same_prompt:.1%} of the photos get the same label")
    for name, peak in device.peak_mb.items():
        if peak > LIMIT_MB:
            failures.append(f"{name} took {peak:.0f} MB, more than {LIMIT_MB}")
    return failures


def compare(device: Machine, host: Machine, bits: int) -> dict[str, Any]:
    """Run everything on both machines, print a table, and return the figures."""
    print("3 of 4: adapt, eval and predict in the emulator", flush=True)
    there, predicted = device.tune(bits), device.labels("predict", device.prompt)
    print("4 of 4: the same on this machine", flush=True)
    here, own = host.tune(bits), host.labels("predict", host.prompt)
    carried = host.labels("predict-carried", device.prompt)  # the prompt file goes from device to device
    agree = sum(carried[photo] == label for photo, label in predicted.items())
    print(f"{'':10}{'adapted':>9}{'zero-shot':>11}{'seconds':>9}{'peak MB':>9}")
    for name, side in (("aarch64", there), ("x86-64", here)):
        total, peak = sum(side.seconds.values()), max(side.peak_mb.values())
        print(f"{name:10}{side.adapted:9.1%}{side.zero_shot:11.1%}{total:9.1f}{peak:9.1f}")
    return {
        "bits": bits,
        "aarch64": asdict(there),
        "x86-64": asdict(here),
        "photos": len(predicted),
        "agree": sum(own[photo] == label for photo, label in predicted.items()),
        "agree_same_prompt": agree,
        "failures": judge(here, there, agree / len(predicted)),
    }


def main() -> None:
    """Run the check from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=CHECKOUT / "dist" / "aarch64")
    parser.add_argument("--bits", type=int, default=1)
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    if platform.machine() != "x86_64":
        raise SystemExit(f"this compares with x86-64, and the machine is {platform.machine()}")
    folder.mkdir(parents=True, exist_ok=True)
    print("1 of 4: the distribution's arm64 Python and the emulator", flush=True)
    python = emulated_python(folder)
    version = run(*python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    print(f"2 of 4: this checkout's wheel and its dependencies for Python {version} on aarch64", flush=True)
    wheels = install_wheels(folder, version)
    print("\n".join(f"  {wheel}" for wheel in wheels))
    device = Machine(python, folder / "aarch64", folder / "site")
    host = Machine([sys.executable], folder / "x86-64", folder / "own" / "unpacked")
    figures = compare(device, host, options.bits)
    facts = {"backbone": DEFAULT, "machine": machine.measure(threads=1), "wheels": wheels}
    print(json.dumps({**figures, **facts}))
    if figures["failures"]:
        raise SystemExit("; ".join(figures["failures"]))


if __name__ == "__main__":
    main()
