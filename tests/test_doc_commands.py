"""Every shell command of README, tutorial, guides and examples runs as it stands there.

The commands of a page run in order, in one shell; each block begins in the project's folder. What a test
cannot run has a stand-in, which `doc_shell.STAND_INS` lists with the reason. `test_doc_blocks` sees that no
block of any page is forgotten.
"""

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_FOLDER
from doc_blocks import PAGES, ROOT, shell
from doc_shell import STAND_INS, prepare, run
from PIL import Image
from safetensors.numpy import save_file
from torch_files import checkpoint, coop_arrays

from qprompt_edge import adapt
from qprompt_runtime.bundle import read_manifest

PHOTOS = ROOT / "examples" / "photos"
PHOTOS_A_CLASS = 6
NAMED = {"leaf/07.jpg", "stone/03.jpg", "tomato/09.jpg", "glove/03.jpg"}  # by the pages, beside the first
RUN = [page for page in PAGES if shell(page)]
EMBEDDED = ("README.md", "docs/tutorial.md", "docs/backbones.md", "docs/tiny.md")
"""Pages on which the backbone is the one that comes along; on the others it is `tiny`, which is quicker."""
FROM_NOTHING = ("README.md", "docs/tutorial.md", "examples/README.md")
"""Pages whose commands make all that they use; on the others, the reader has photos and prompts."""
PROMPTS = ("belt", "new", "a", "b", "c", "material", "damage", "lid", "bins", "gate", "birds")
SETS = ("photos", "pets", "tools")
MINI = ("cifar10", "caltech101", *(f"pacs/{kind}" for kind in ("photo", "art_painting", "cartoon", "sketch")))
PLACES = {
    "homeassistant.local": "127.0.0.1:1",  # nobody answers: `watch` says so and goes on
    "broker.lan": "127.0.0.1:1",
    "SOURCE": "belt-8.qpt",
    "FOLDER": "fetched",
    "PHOTOS": "photos",
}
NEEDS = {
    "docs/bake.md": "onnx",
    "examples/bake_web/README.md": "onnx",
    "docs/serve.md": "starlette",
    "docs/signing.md": "cryptography",
    "docs/deploy.md": "cryptography",
    "docs/home-assistant.md": "paho.mqtt",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the pages need of a checkout, with few photos; stand-ins lie beside it."""
    folder = tmp_path / "checkout"
    for photo in PHOTOS.glob("*/*.jpg"):
        if int(photo.stem) < PHOTOS_A_CLASS or f"{photo.parent.name}/{photo.name}" in NAMED:
            target = folder / photo.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, target)
    for name in ("pyproject.toml", "noxfile.py", "examples/make_photos.py"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("deploy", "examples/bake_c", "examples/bake_web", "examples/flower"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("node_modules", "*.onnx"))
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    (folder / "exporters").symlink_to(ROOT / "exporters")
    prepare(folder)
    for name in ("00.jpg", "01.jpg"):
        shutil.copy(PHOTOS / "stone" / name, tmp_path / "camera")
    return folder


@pytest.fixture(scope="module")
def tuned_on_tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Prompt files for the example photos: the default method, the backbone `tiny`; three differ."""
    folder = tmp_path_factory.mktemp("tuned")
    for photo in PHOTOS.glob("*/0[0-3].jpg"):
        (folder / photo.parent.name).mkdir(exist_ok=True)
        shutil.copy(photo, folder / photo.parent.name)
    prompts = dict.fromkeys(PROMPTS, adapt(folder, backbone=TINY_FOLDER, holdout=0).prompt.to_bytes())
    for seed, name in enumerate("bc", 2):
        prompts[name] = adapt(folder, backbone=TINY_FOLDER, holdout=0, seed=seed).prompt.to_bytes()
    return prompts


def stock(folder: Path, prompts: dict[str, bytes]) -> None:
    """What a reader of the guides has: photos, prompts, a backbone."""
    for name in SETS:
        (folder / name).symlink_to("examples/photos")
    for photo in PHOTOS.glob("*/1[01].jpg"):
        (folder / "known-photos" / photo.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / "known-photos" / photo.parent.name)
    (folder / "new-photos").mkdir()
    shutil.copytree(PHOTOS / "bolt", folder / "new-photos" / "bolt", ignore=lambda _place, names: names[2:])
    for place in (*(folder / "mini" / name for name in MINI), folder.parent / "system" / "data" / "pets"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(PHOTOS)
    (folder / "incoming").symlink_to(folder.parent / "camera")
    for name, prompt in prompts.items():
        (folder / f"{name}.qpt").write_bytes(prompt)
    for name in ("new.jpg", "photo.jpg"):
        shutil.copy(PHOTOS / "stone" / "00.jpg", folder / name)
    Image.open(folder / "new.jpg").save(folder / "photo.ppm")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for photo in sorted(PHOTOS.glob("[bs]*/0[0-3].jpg")):
            archive.write(photo, photo.relative_to(PHOTOS))
    shutil.copytree(TINY_FOLDER, folder / "MobileCLIP2-S0")


def stock_checkpoints(folder: Path) -> None:
    """Files of other tools, for three classes."""
    (folder / "ViT-B-16").symlink_to(TINY_FOLDER)
    arrays = coop_arrays((4, read_manifest(TINY_FOLDER).text.width))
    (folder / "model.pth.tar-50").write_bytes(checkpoint(arrays))
    (folder / "pets.csv").write_text("label,text\ncat,cat\ndog,dog\nbird,bird\n")
    head = np.eye(3, read_manifest(TINY_FOLDER).embed_dim, dtype=np.float32)
    save_file({"weight": head}, folder / "head.safetensors")


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(
    page: str, checkout: Path, tuned_on_tiny: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    if page in NEEDS:
        pytest.importorskip(NEEDS[page])
    if page == "docs/serve.md" and not (shutil.which("curl") and shutil.which("openssl")):
        pytest.skip("needs curl and openssl")
    if page not in FROM_NOTHING:
        stock(checkout, tuned_on_tiny)
    if page == "docs/checkpoints.md":
        stock_checkpoints(checkout)
    apart = page == "docs/tiny.md"  # the second way is for another machine
    for number, blocks in enumerate([block] for block in shell(page)) if apart else [(0, shell(page))]:
        installed = checkout.parent / f"backbones-{number}"
        monkeypatch.setenv("QPE_BACKBONES", str(installed))
        if page not in EMBEDDED:
            installed.mkdir()
            (installed / "tiny").symlink_to(TINY_FOLDER)
        result = run(blocks, checkout, PLACES, "small" if page in EMBEDDED else "tiny")
        assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture
def fails(checkout: Path) -> Callable[[str], int]:
    """The exit code of a command that another follows."""
    return lambda command: run([f"{command}\ntrue\n"], checkout).returncode


def test_a_command_that_fails_is_noticed(fails: Callable[[str], int]) -> None:
    assert fails("qprompt-edge inspect missing.qpt") == 1
    assert fails("qprompt-edge export --model A --no-such-option") == 2
    assert fails("qprompt-edge predict . --prompt missing.qpt > answers.tsv") == 1
    assert fails("qprompt-edge reproduce --set a=mini/none --out runs") == 1
    for command in (
        "pip install '.[no-such-extra]'",
        "sudo /opt/qprompt/bin/pip install .",
        "sudo systemctl enable --now qprompt-none",
        "scp missing.qpt USER@ADDRESS:",
        "ssh USER@ADDRESS mv missing.part missing.qpt",
        "sudoedit /etc/qprompt/none.conf",
    ):
        assert fails(command) != 0, command


def test_every_stand_in_has_a_reason() -> None:
    assert all(why for why, _script in STAND_INS.values())


def test_the_pictures_show_commands_of_the_pages() -> None:
    pictures = {path.stem for path in (ROOT / "docs" / "pictures").glob("*.svg")}
    shown = [line for page in RUN for line in "".join(shell(page)).splitlines()]
    source = (ROOT / "docs" / "terminal.py").read_text(encoding="utf-8")
    drawn = dict(re.findall(r'^    "(\w+)": "(qprompt-edge .*)",$', source, flags=re.MULTILINE))
    assert set(drawn) == pictures
    for command in drawn.values():
        assert any(command in line for line in shown), f"no page has the command {command!r}"
