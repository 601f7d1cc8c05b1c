"""Values of the command line that are taken without pydantic: the same ones that typer makes of the words."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from conftest import TINY_FOLDER
from test_cli import in_a_process
from typer.main import get_command

from qprompt_edge.cli.parameters import argument, number, option
from qprompt_edge.cli.plain_values import taking_plain_values


def sample(
    files: Annotated[list[Path], argument("FILES", "Files.")],
    file: Annotated[Path | None, option("Input", "A file.")] = None,
    count: Annotated[int, number("Input", "How many.", 1, max=9)] = 2,
    share: Annotated[float, number("Input", "Which share.", 0, max=1)] = 0.5,
    rate: Annotated[float | None, number("Input", "A rate.", 0)] = None,
    bits: Annotated[Literal["1", "2"], option("Input", "Bits.")] = "1",
    names: Annotated[list[str] | None, option("Input", "Names.")] = None,
    name: Annotated[str, option("Input", "A name.")] = "x",
    on: Annotated[bool, option("Input", "A switch.")] = False,
) -> None:
    """Options of every kind that the commands have."""


def parsed(words: list[str], *, plain: bool) -> dict[str, Any] | str:
    """The values of `sample`, or what is wrong with the words."""
    app = typer.Typer(add_completion=False)
    app.command()(sample)
    command: Any = get_command(app)
    if plain:
        assert taking_plain_values(command.params) == command.params
    try:
        return dict(command.make_context("sample", list(words)).params)
    except Exception as error:
        return f"{type(error).__name__}: {getattr(error, 'message', error)}"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a.jpg", "no/such/b.jpg"],
        ["a.jpg", "--file", ".", "--on"],
        *(
            ["a.jpg", "--count", word]
            for word in ("1", "9", "0", "10", "x", "", "5.0", "5.5", " 5", "٣", "+3")
        ),
        ["a.jpg", "--count", "9" * 5000],
        *(["a.jpg", "--share", word] for word in ("0", "1", ".25", "1.", ".", "1e-3", "2", "1.2.3", "-1")),
        *(["a.jpg", "--rate", word] for word in ("123456789", "0.1", "inf", "1_0", "0.30000000000000004")),
        *(["a.jpg", "--bits", word] for word in ("1", "2", "3", "")),
        ["a.jpg", "--names", "b", "--names", "", "--name", "naïve\udce4"],
    ],
)
def test_a_plain_word_has_the_value_that_typer_gives_it(words: list[str]) -> None:
    assert parsed(words, plain=True) == parsed(words, plain=False)


def test_neither_predict_nor_adapt_imports_pydantic(
    run: Any, photos: Path, prompt: Path, tmp_path: Path
) -> None:
    """Nor does a second `adapt` read text or numpy's masked arrays: all features are in the cache."""
    adapt = (
        "adapt",
        photos,
        "--backbone",
        TINY_FOLDER,
        "--out",
        tmp_path / "p.qpt",
        "--force",
        "--holdout",
        "0.3",
    )
    for words in (("predict", photos, "--prompt", prompt), (*adapt, "--seed", 2)):
        assert run(*words).code == 0
        loaded = in_a_process(*words, then="*sys.modules").split()
        assert not set(loaded) & {"pydantic", "pydantic_core", "regex", "ftfy", "html", "numpy.ma"}


@pytest.mark.skipif(sys.platform != "linux", reason="the system refuses to read a file by its mode")
def test_a_file_that_may_not_be_read_is_left_to_typer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").touch()
    monkeypatch.setattr("os.access", lambda *_arguments: False)
    for plain in (True, False):
        assert "not readable" in str(parsed([str(tmp_path / "secret")], plain=plain))
