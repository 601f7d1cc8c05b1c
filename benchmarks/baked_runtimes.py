"""A baked classifier in Python, in C and in a browser: the label of each photo, and its probability.

The classifier takes photos as bytes (`bake --pixels uint8`). C is the example `examples/bake_c`, the browser
is Chromium with the page of `examples/bake_web`, packed into one file and opened from the disk.
"""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

EXAMPLES = Path(__file__).parent.parent / "examples"
WEB = EXAMPLES / "bake_web"
ONNXRUNTIME_WEB = WEB / "node_modules" / "onnxruntime-web"
_INCLUDE = "-I/usr/include/onnxruntime"
_WAIT_MS = 60_000

Answer = tuple[str, float]
NONE = "none of these"


class MissingError(Exception):
    """A runtime is not here; the message says what to install."""


def picture(photo: Path) -> Image.Image:
    """A photo as any program sees it: upright, RGB, at its full size."""
    with Image.open(photo) as found:
        return ImageOps.exif_transpose(found).convert("RGB")


def in_python(model: Path, photos: Sequence[Path]) -> list[Answer]:
    """With onnxruntime and nothing of this project."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    answers = []
    for photo in photos:
        (shares,), *none = session.run(None, {"image": np.asarray(picture(photo))[None]})
        refused = bool(none and none[0][0])
        answers.append((NONE if refused else labels[shares.argmax()], float(shares.max())))
    return answers


def in_c(model: Path, photos: Sequence[Path], folder: Path) -> list[Answer]:
    """With the example in C, built in `folder` against the library that Python's onnxruntime brings.

    Raises:
        MissingError: There is no compiler, header or library.
    """
    program = build_c(folder)
    prepared = [folder / f"{number}.ppm" for number in range(len(photos))]
    for photo, path in zip(photos, prepared, strict=True):
        picture(photo).save(path)
    done = subprocess.run([program, model, *prepared], capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return [(label, float(probability)) for _, label, probability in lines]


def build_c(folder: Path) -> Path:
    """Build the example in C; the program.

    Raises:
        MissingError: There is no compiler, header or library.
    """
    compiler = shutil.which("cc")
    libraries = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*"))
    if compiler is None or not libraries:
        raise MissingError("no C compiler" if compiler is None else "this onnxruntime has no C library")
    header = subprocess.run(
        [compiler, _INCLUDE, "-E", "-"],
        input=b"#include <onnxruntime_c_api.h>\n",
        capture_output=True,
        check=False,
    )
    if header.returncode:
        raise MissingError("no headers of onnxruntime: apt-get install libonnxruntime-dev")
    (folder / "libonnxruntime.so.1").symlink_to(libraries[-1])
    program = folder / "classify"
    source = EXAMPLES / "bake_c" / "classify.c"
    flags = ("-Wall", "-Wextra", "-Werror", _INCLUDE, f"-Wl,-rpath,{folder}", "-o", program)
    subprocess.run([compiler, source, folder / "libonnxruntime.so.1", *flags], check=True)
    return program


def in_browser(model: Path, photos: Sequence[Path], folder: Path) -> list[Answer]:
    """In Chromium, in a page of one file that is opened from the disk; no server, no network.

    Raises:
        MissingError: There is no onnxruntime-web, Chromium or playwright.
    """
    if not ONNXRUNTIME_WEB.is_dir():
        raise MissingError("no onnxruntime-web: npm install --prefix examples/bake_web")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingError("no playwright: pip install playwright") from error
    if chromium is None:
        raise MissingError("no chromium: apt-get install chromium")
    page_file = folder / "page.html"
    page_file.write_text(runpy.run_path(str(WEB / "pack.py"))["packed"](model), encoding="utf-8")
    answers = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(offline=True)
        page = context.new_page()
        page.set_default_timeout(_WAIT_MS)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        output = page.locator("output")
        output.filter(has_text="Ready").wait_for()
        for number, photo in enumerate(photos):
            name = f"{number}{photo.suffix}"
            kind = "image/png" if photo.suffix == ".png" else "image/*"
            page.locator("input").set_input_files(
                {"name": name, "mimeType": kind, "buffer": photo.read_bytes()}
            )
            output.filter(has_text=f"{name}: ").wait_for()
            label, _, probability = output.inner_text().removeprefix(f"{name}: ").rpartition(" ")
            answers.append((label, float(probability)))
        browser.close()
    if errors:
        raise RuntimeError(f"the page raised {errors}")
    return answers
