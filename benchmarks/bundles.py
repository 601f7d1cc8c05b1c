"""Bundles with random weights for the benchmarks: speed and memory do not depend on what the weights are.

    python -m benchmarks.bundles [--bundles DIR] [--only MODEL PRECISION]

A bundle is made once and again whenever the exporters' source has changed. Its weights are those that
`qprompt_exporters.models.load_source` draws from its fixed seed, so both sides of a comparison run the same
model.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import ROOT, run_module

NEEDED = (
    ("ViT-B-16", "fp32"),
    ("ViT-B-16", "int8"),
    ("ViT-B-16", "int8-merge16"),
    ("ViT-B-32", "fp32"),
    ("ViT-B-32", "int8"),
    ("MobileCLIP2-S0", "fp32"),
)
_SOURCES = ("exporters/qprompt_exporters", "runtime/qprompt_runtime")
DEFAULT = "small"
"""The backbone that every command takes unless another is named."""
EMBEDDED = {
    DEFAULT: ROOT / "runtime" / "qprompt_runtime" / "backbones" / DEFAULT,
    "tiny": ROOT / "exporters" / "backbones" / "tiny",
}
"""Bundles with trained weights, which need no export; `tiny` is measured for comparison."""


def default_folder() -> Path:
    """Where bundles lie unless a place is given."""
    return Path(tempfile.gettempdir()) / "qprompt-edge-benchmarks"


def source_hash() -> str:
    """Hash of what decides a bundle's content.

    That is the exporters' modules, the manifest's format and the tool's version.
    """
    exporters, runtime = (ROOT / name for name in _SOURCES)
    files = sorted(exporters.glob("*.py"))
    files.append(runtime / "manifest.py")
    digest = hashlib.sha256(version("qprompt-edge").encode())
    for path in files:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def bundle(folder: Path, model: str, precision: str) -> Path:
    """The folder of a bundle, exported in a process of its own if it is not there or out of date.

    Args:
        folder: Where bundles lie.
        model: open_clip's name, or one of `EMBEDDED`, which is taken as it is.
        precision: `fp32`, `fp16` or `int8`; with `-mergeR` behind it, of a tower that merges R tokens.
    """
    if model in EMBEDDED:
        return EMBEDDED[model]
    out = folder / f"{model}-{precision}"
    stamp, wanted = folder / f"{out.name}.source", source_hash()
    if out.is_dir() and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return out
    print(f"exporting {model} in {precision} to {out}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    run_module("benchmarks.bundles", "--bundles", folder, "--only", model, precision)
    stamp.write_text(wanted, encoding="utf-8")
    return out


def main() -> None:
    """Make one bundle, or all that are needed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bundles", type=Path, default=default_folder())
    parser.add_argument(
        "--only", nargs=2, metavar=("MODEL", "PRECISION"), help="write this one, here and now"
    )
    options = parser.parse_args()
    if options.only:
        from qprompt_exporters.bundle_writer import export_bundle

        model, kind = options.only
        precision, _, merged = kind.partition("-merge")
        out = options.bundles / f"{model}-{kind}"
        export_bundle(model, out, precision=precision, merge_tokens=int(merged or 0))
        return
    for model, precision in NEEDED:
        print(bundle(options.bundles, model, precision))


if __name__ == "__main__":
    main()
