"""The real Mender client, alone as it runs without a server, with our update module in the place of its own.

The client looks for modules and settings in two fixed folders, so it runs in a mount namespace in which those
are a test's. Nothing of the machine is changed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY_FOLDER

MODULE = Path(__file__).parent.parent / "deploy" / "mender" / "qprompt"
_MODULES, _SETTINGS = "/usr/share/mender", "/etc/mender"
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def _can_run() -> bool:
    programs = ("mender", "mender-artifact", "unshare")
    if not all(map(shutil.which, programs)):
        return False
    mount = [*_NAMESPACE, "mount", "--bind", _MODULES, _SETTINGS]  # both must be there
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


needs_mender = pytest.mark.skipif(
    not _can_run(),
    reason="needs mender-client and mender-artifact, from Debian's packages, and user namespaces",
)


def write_program(path: Path) -> Path:
    """A `qprompt-edge` of this Python, as `/opt/qprompt/bin` has one."""
    path.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m qprompt_edge \"$@\"\n")
    path.chmod(0o755)
    return path


def write_settings(path: Path, program: Path, to: Path, install: str = f"--backbone {TINY_FOLDER}") -> Path:
    """The module's settings, as `qprompt.conf` has them."""
    path.write_text(f"program={program}\nto={to}\npolicy='--task belt'\ninstall='{install}'\n")
    return path


def write_artifact(prompt: Path, out: Path) -> Path:
    """An artifact for our module with a prompt in it."""
    command = ["mender-artifact", "write", "module-image", "--type", "qprompt", "--device-type", "pi"]
    command += ["--artifact-name", out.stem, "--file", str(prompt), "--output-path", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


class Mender:
    """A device's client.

    Args:
        folder: Where it keeps its data.
        settings: Of the module.
    """

    def __init__(self, folder: Path, settings: Path) -> None:
        self._folder, self._settings = folder, settings
        modules = folder / "share" / "modules" / "v3"
        modules.mkdir(parents=True)
        shutil.copy(MODULE, modules / "qprompt")
        (folder / "data").mkdir()
        (folder / "data" / "device_type").write_text("device_type=pi\n")
        (folder / "etc").mkdir()
        (folder / "etc" / "mender.conf").write_text("{}")
        (folder / "etc" / "artifact_info").write_text("artifact_name=first\n")

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        """`mender install ...` and others; what it prints is in `stderr`."""
        inside = (
            f'mount --bind "$1/share" {_MODULES} && mount --bind "$1/etc" {_SETTINGS} && export QPROMPT_MENDER_CONF="$2" '
            '&& data=$1/data && shift 2 && exec mender --no-syslog --data "$data" "$@"'
        )
        command = [*_NAMESPACE, "sh", "-c", inside, "sh", self._folder, self._settings, *words]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
