"""Every shell command of README, tutorial and short guides runs as it stands there.

The commands of a page run in order, in one folder. Stand-ins take the place of what needs a network, root or
another machine: pip (whose arguments are checked), nox, sudo and scp. `export` needs torch, so only its
options are checked.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_FOLDER
from safetensors.numpy import save_file
from torch_files import checkpoint, coop_arrays

from qprompt_runtime.bundle import read_manifest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/tutorial.md", "docs/check.md", "docs/backbones.md", "docs/checkpoints.md")
PHOTOS_A_CLASS = 6
EXAMPLES = {  # the photos that the pages name, beside the first ones
    "leaf/07.jpg", "stone/03.jpg", "tomato/09.jpg", "glove/03.jpg",
}  # fmt: skip

PYTHON = """#!/bin/bash
if [[ $1 == -m && $2 == venv ]]; then
  mkdir -p "$3/bin" && cp "$STAND_INS"/* "$3/bin" && echo "PATH=$PWD/$3/bin:\\$PATH" > "$3/bin/activate"
else
  exec "$REAL_PYTHON" "$@"
fi
"""
TOOL = """#!/bin/bash
if [[ $1 == export ]]; then set -- "$@" --help; fi
exec "$REAL_PYTHON" -m qprompt_edge "$@"
"""
PIP = """#!/bin/bash
[[ $1 == install ]] && shift && for wanted; do
  case $wanted in
    nox) ;;
    .) [[ -f pyproject.toml ]] ;;
    .\\[*\\]) grep -q "^${wanted:2:-1} = \\[" pyproject.toml ;;
    *) false ;;
  esac || { echo "pip: what is $wanted?" >&2; exit 1; }
done
"""
NOTHING = "#!/bin/bash\n"
STAND_INS = {
    "python3": PYTHON,
    "python": PYTHON,
    "qprompt-edge": TOOL,
    "pip": PIP,
    "nox": "#!/bin/bash\n[[ -f noxfile.py ]]\n",
    "sudo": NOTHING,
    "scp": '#!/bin/bash\n[[ -f $1 ]]\n',
}  # fmt: skip


def shell_commands(page: Path) -> list[str]:
    """The lines of blocks marked `sh`, and of indented blocks, in the order of the page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$|((?:^    \S[^\n]*\n)+)", text, flags=re.DOTALL | re.MULTILINE)
    lines = []
    for language, fenced, indented in blocks:
        assert language or indented, f"{page.name}: say what language a block is in"
        lines += fenced.splitlines() if language == "sh" else indented.splitlines()
    return [line.strip() for line in lines]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the pages need of a checkout, with few photos; stand-ins lie beside it."""
    stand_ins, folder = tmp_path / "stand-ins", tmp_path / "checkout"
    stand_ins.mkdir()
    for name, script in STAND_INS.items():
        (stand_ins / name).write_text(script)
        (stand_ins / name).chmod(0o755)
    for photo in (ROOT / "examples" / "photos").glob("*/*.jpg"):
        if int(photo.stem) < PHOTOS_A_CLASS or f"{photo.parent.name}/{photo.name}" in EXAMPLES:
            target = folder / "examples" / "photos" / photo.parent.name / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, target)
    for name in ("pyproject.toml", "noxfile.py"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(commands: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """All commands in one shell, which stops at the first that fails and shows each before it runs."""
    stand_ins = folder.parent / "stand-ins"
    packages = os.pathsep.join(
        str(ROOT / name) for name in ("runtime", "exporters", ".")
    )  # as in this process, wherever the shell goes
    settings = {
        "PATH": f"{stand_ins}:{os.environ['PATH']}",
        "STAND_INS": str(stand_ins),
        "REAL_PYTHON": sys.executable,
        "PYTHONPATH": packages if "PYTHONPATH" in os.environ else "",
    }
    script = "set -euxo pipefail\n" + "\n".join(commands)
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=os.environ | settings, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run(name: str, checkout: Path) -> None:
    commands = shell_commands(ROOT / name)
    assert commands, f"{name} has no commands"
    if name == "docs/backbones.md":
        shutil.copytree(TINY_FOLDER, checkout / "MobileCLIP2-S0")
    if name in ("docs/backbones.md", "docs/check.md"):
        shutil.copytree(checkout / "examples" / "photos", checkout / "photos")
    if name == "docs/checkpoints.md":
        (checkout / "ViT-B-16").symlink_to(TINY_FOLDER)
        arrays = coop_arrays((4, read_manifest(TINY_FOLDER).text.width))
        (checkout / "model.pth.tar-50").write_bytes(checkpoint(arrays))
        (checkout / "pets.csv").write_text("label,text\ncat,cat\ndog,dog\nbird,bird\n")
        head = np.eye(3, read_manifest(TINY_FOLDER).embed_dim, dtype=np.float32)
        save_file({"weight": head}, checkout / "head.safetensors")
    result = run(commands, checkout)
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_command_that_fails_is_noticed(checkout: Path) -> None:
    assert run(["qprompt-edge inspect missing.qpt", "true"], checkout).returncode == 1
    assert run(["qprompt-edge export --model A --no-such-option", "true"], checkout).returncode == 2
    assert run(["pip install '.[no-such-extra]'", "true"], checkout).returncode == 1
    assert (
        run(["qprompt-edge predict . --prompt missing.qpt > answers.tsv", "true"], checkout).returncode == 1
    )


def test_the_pictures_show_commands_of_the_pages() -> None:
    pictures = {path.stem for path in (ROOT / "docs" / "pictures").glob("*.svg")}
    shown = [line for name in PAGES for line in shell_commands(ROOT / name)]
    source = (ROOT / "docs" / "terminal.py").read_text(encoding="utf-8")
    drawn = dict(re.findall(r'^    "(\w+)": "(qprompt-edge .*)",$', source, flags=re.MULTILINE))
    assert set(drawn) == pictures
    for command in drawn.values():
        assert any(command in line for line in shown), f"no page has the command {command!r}"
