"""Write the page, onnxruntime-web and a classifier as one HTML file, which needs no server.

python pack.py belt.onnx belt.html
"""

import re
import sys
from base64 import b64encode
from pathlib import Path

HERE = Path(__file__).parent
KINDS = {".mjs": "text/javascript", ".wasm": "application/wasm", ".onnx": "application/octet-stream"}


def packed(model: Path) -> str:
    """The page, with what it loads as data: addresses in it."""

    def address(found: re.Match[str]) -> str:
        path = model if found[1].endswith(".onnx") else HERE / found[1]
        content = b64encode(path.read_bytes()).decode()
        return f'"data:{KINDS[path.suffix]};base64,{content}"'

    script = (HERE / "classify.js").read_text(encoding="utf-8")
    script = re.sub(r'"([^"]+\.(?:mjs|wasm|onnx))"', address, script)
    page = (HERE / "index.html").read_text(encoding="utf-8")
    return page.replace(' src="classify.js">', f">\n{script}")


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(packed(Path(sys.argv[1])), encoding="utf-8")
