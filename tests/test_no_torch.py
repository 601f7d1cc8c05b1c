"""The device side does not know that torch exists."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKSTATION_ONLY = (
    "torch",
    "torchvision",
    "open_clip",
    "timm",
    "onnx",
    "onnxscript",
    "spox",
    "qprompt_exporters",
)
NETWORK = ("requests", "httpx", "urllib3", "huggingface_hub")

IMPORT_ALL = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
names = [name for name in names if not name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(json.dumps({"imported": names, "loaded": sorted({name.split(".")[0] for name in sys.modules})}))
"""


@pytest.mark.parametrize("package", ["qprompt_runtime", "qprompt_edge"])
def test_no_module_of_the_device_side_loads_the_exporters_libraries(package: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, package], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["imported"]) > 5
    assert not set(report["loaded"]) & {*WORKSTATION_ONLY, *NETWORK}
