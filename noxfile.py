"""Every check of the project, each in a fresh environment of its own: `nox` runs them all.

    nox                   everything; tests run twice only where the oldest dependencies can matter
    nox -s lint           formatter, linter, types, import contracts
    nox -s docs           the documentation site, strictly: links, anchors, nothing from other hosts
    nox -s device         the device side without torch, newest dependencies
    nox -s device_oldest  the same with the oldest dependencies, on Python 3.10 where there is one
    nox -s interface      requests that schemathesis makes of `serve`
    nox -s tests          what needs the exporters, and what is slow (installs torch)
    nox -s coverage       not with the others: `device` again, and how much of the device side it runs
    nox -s package        not with the others: wheel and sdist, checked and installed

Arguments behind `--` go to pytest: `nox -s device -- -k prompt_file`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "docs", "device", "device_oldest", "interface", "tests"]

TEST_TOOLS = ("pytest", "pytest-xdist", "hypothesis", "scikit-learn")
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COVERAGE_FLOOR = 96
"""Percent of the device side's statements that its tests run in their own process."""
OLDEST = (
    "numpy==1.26.*",
    "onnxruntime==1.19.*",
    "pillow==10.3.*",
    "cbor2==5.6.3",
    "regex==2024.4.16",
    "safetensors==0.4.0",
    "ftfy==6.2.*",
    "typer==0.26.0",
    "rich==13.8.*",
    "paho-mqtt==2.0.*",
    "starlette==0.40.*",
    "uvicorn==0.30.*",
    "segno==1.6.*",
    "cryptography==42.*",
)
"""The lower bounds in pyproject.toml. Their wheels end at Python 3.12."""
OLDEST_TESTS = (
    *("calibration", "feature_cache", "metrics", "packing", "qtaskres", "quantizer", "trainer"),  # numpy
    *("features", "providers", "python_api", "small", "tiny"),  # onnxruntime
    *("decode", "images", "jpeg_ends", "photo_formats", "photo_quality", "png_chunks"),  # pillow
    *("corpus", "prompt_file"),  # cbor2
    *("text", "tokenizer"),  # regex, ftfy
    *("cli_convert", "linear_head", "safetensors"),  # safetensors
    *("cli", "cli_help"),  # typer, rich
    *("fetch_sources", "mqtt"),  # paho-mqtt
    *("server_access", "server_rest"),  # starlette, uvicorn, segno
    *("cli_signing", "cose_sign1"),  # cryptography
)
"""Modules below `tests/` that also run with the oldest dependencies: those that use what a dependency gives.

What only our own code decides would give the same there.
"""


def _python_3_10() -> str | None:
    """A Python 3.10 that starts, on the path or below pyenv's folder."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in (shutil.which("python3.10"), *sorted(pyenv.glob("3.10.*/bin/python3.10"))):
        # a version manager's shim may be on the path and yet refuse to start
        if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            return str(found)
    return None


PYTHON_3_10 = _python_3_10()


def _install(session: nox.Session, *packages: str) -> None:
    """Install without compiling thousands of modules, most of which no test imports.

    Python compiles and keeps those that are imported.
    """
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    session.install("--quiet", "--no-compile", *packages)


def _test_side_by_side(session: nox.Session, workers: int, *arguments: str) -> None:
    """Run tests in that many workers, each with one processor and one thread (see `tests/conftest.py`)."""
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}
    workers_and_how = ("-n", str(workers), "--dist", "worksteal")
    session.run("pytest", *workers_and_how, *arguments, *session.posargs, env=one_thread)


def _test_without_torch(
    session: nox.Session,
    package: str,
    *more: str,
    options: tuple[str, ...] = (),
    modules: tuple[str, ...] = (),
) -> None:
    """Install the wheel as a device would, with pins or tools, and run the tests that need no exporter.

    Only those in `modules`, where any are named.
    """
    paths = [f"tests/test_{name}.py" for name in modules]
    if missing := [path for path in paths if not Path(path).is_file()]:
        session.error(f"OLDEST_TESTS names what is not there: {', '.join(missing)}")
    _install(session, package, *TEST_TOOLS, *more)
    session.run(
        "python",
        "-c",
        "import importlib.util as u; assert u.find_spec('torch') is None, 'torch is installed'",
    )
    # two workers a processor: one waits for a server or a browser, the other works
    _test_side_by_side(session, 2 * PROCESSORS, *options, "-m", "not export and not slow", *paths)


@nox.session
def lint(session: nox.Session) -> None:
    """Linter, formatter, strict types, and the packages' one-way dependencies; torch is not needed."""
    _install(session, ".[dev,serve]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports", env={"PYTHONPATH": os.pathsep.join(("runtime", "exporters", "."))})


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site. Its pages are built from the files alone, so the package is not installed."""
    extras = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
    session.install("--quiet", *extras["docs"])
    site = Path(session.create_tmp()) / "site"
    # the setting leaves out a notice about the future of mkdocs, in colours
    session.run("mkdocs", "build", "--strict", "--site-dir", str(site), env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def device(session: nox.Session) -> None:
    """The device side, newest dependencies, all extras; pages in Chromium, where that is; `bake`."""
    _test_without_torch(
        session,
        ".[plots,camera,mqtt,serve,sign,bake]",
        *("playwright>=1.45", "pytest-rerunfailures>=14", "pyyaml>=6"),
    )


@nox.session(python=PYTHON_3_10)
def device_oldest(session: nox.Session) -> None:
    """The device side, oldest dependencies, on the oldest Python that is here."""
    if PYTHON_3_10 is None:
        if sys.version_info >= (3, 13):
            session.skip("the oldest dependencies need Python 3.10 to 3.12, and there is no python3.10 here")
        session.warn("there is no python3.10 here; using the Python that runs nox")
    _test_without_torch(session, ".[mqtt,serve,sign]", *OLDEST, modules=OLDEST_TESTS)


@nox.session
def interface(session: nox.Session) -> None:
    """Requests that schemathesis makes of the interface's document: no 500, no answer that is not in it."""
    _install(session, ".[serve]", "pytest", "scikit-learn", "schemathesis>=4")
    session.run("pytest", "tests/test_schemathesis.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The exporters, and slow tests.

    The install is editable, because the embedded backbones' training weights are not in the wheel.
    """
    _install(session, "-e", ".[dev,export,cluster,serve]")
    _test_side_by_side(session, PROCESSORS, "-m", "export or slow")  # each worker loads torch


@nox.session
def coverage(session: nox.Session) -> None:
    """The device side again, counting what runs; fails below the floor."""
    session.env["COVERAGE_CORE"] = "sysmon" if sys.version_info >= (3, 12) else "ctrace"  # sysmon is quicker
    options = ("--cov", "--cov-report=term", f"--cov-fail-under={COVERAGE_FLOOR}")
    options += ("--deselect", "tests/test_watch_endurance.py")  # it counts objects, and coverage makes some
    _test_without_torch(session, ".[plots,camera,mqtt,serve,sign,bake]", "pytest-cov", options=options)


@nox.session
def package(session: nox.Session) -> None:
    """Wheel and sdist as a release builds them.

    Checks their metadata, installs each in a fresh environment, and uses it.
    """
    session.install("--quiet", "build", "twine")
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    built = sorted(map(str, dist.iterdir()))
    session.run("twine", "check", "--strict", *built)
    for file in built:
        session.run("bash", ".ci/try-package", file, external=True, env={"PYTHON": sys.executable})
