"""Names and paths are shown on one line, whatever they hold."""

from pathlib import Path

from qprompt_runtime.text import printable


def test_names_are_printed_on_one_line() -> None:
    assert printable("a\nb") == "a\\nb"
    assert printable(Path("é 日.jpg")) == "é 日.jpg"
    assert printable("bad \udcff") == "bad \\udcff"
