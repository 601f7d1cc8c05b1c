"""Draw docs/pictures/*.svg, the terminal as README and tutorial show it; run `python docs/terminal.py`.

Each picture is one real run of the tutorial's command on the example photos, in a pseudo-terminal, with the
default backbone and an empty cache. Times and memory are those of the machine that drew it.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
RUNS = {
    "try": "qprompt-edge adapt --images examples/photos --out try.qpt",
    "adapt": "qprompt-edge adapt photos --out belt.qpt",
    "predict": "qprompt-edge predict photos/stone/00.jpg photos/leaf/07.jpg --prompt belt.qpt --top-k 2",
    "none": "qprompt-edge predict new --prompt belt.qpt --accept 0.95",
    "update": "qprompt-edge update belt.qpt --images more",
}
"""Picture to command. They run in this order, in one folder."""

_WIDTH = 80


def lay_out(folder: Path) -> None:
    """The tutorial's folders.

    `photos` has all classes but the glove, `more` has the glove, `new` has three photos.
    """
    shutil.copytree(HERE.parent / "examples" / "photos", folder / "photos")
    (folder / "examples").symlink_to(HERE.parent / "examples")
    (folder / "more").mkdir()
    shutil.move(folder / "photos" / "glove", folder / "more")
    (folder / "new").mkdir()
    for label, number in (("stone", 3), ("tomato", 9)):
        shutil.copy(folder / "photos" / label / f"{number:02}.jpg", folder / "new" / f"{label}.jpg")
    shutil.copy(folder / "more" / "glove" / "03.jpg", folder / "new" / "glove.jpg")


def run(command: str, folder: Path) -> str:
    """What a terminal of `_WIDTH` columns gets from a command that succeeds.

    Raises:
        CalledProcessError: The command failed.
    """
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "qprompt_edge", *command.split()[1:]]
    settings = {"QPE_CACHE": str(folder / "cache"), "TERM": "xterm-256color", "COLUMNS": str(_WIDTH)}
    with subprocess.Popen(
        words, cwd=folder, env=os.environ | settings, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = bytearray()
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not block:
                break
            said += block
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, said.decode())
    return said.decode()


def last_state(said: str) -> str:
    """What stays on the screen.

    Lines that were drawn again, such as progress bars, are there only as they were last.
    """
    lines, row = [""], 0
    for part in re.split(r"(\r?\n|\r|\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh])", said):
        if part.endswith("\n"):
            row += 1
            lines += [""] * (row == len(lines))
        elif part.endswith("A") and part.startswith("\x1b["):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part != "\r" and not part.startswith("\x1b[?25"):
            lines[row] += part
    return "\n".join(lines).rstrip()


def draw(name: str, command: str, screen: str) -> None:
    """Write one picture; it loads no font from the network."""
    console = Console(record=True, width=_WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    console.print(Text.from_ansi(screen))
    svg = console.export_svg(title="qprompt-edge", theme=MONOKAI, unique_id=name)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, DejaVu Sans Mono")
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    """Run the commands and draw what they print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder)
        for picture, command in RUNS.items():
            draw(picture, command, last_state(run(command, folder)))
            if picture == "try":
                shutil.rmtree(folder / "cache")  # the next one encodes again


if __name__ == "__main__":
    main()
