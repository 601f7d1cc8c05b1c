"""Changes of a folder are made whole or not at all, and undone only where nothing is in the way."""

import json
from pathlib import Path

import pytest

from qprompt_edge.server import journal as module
from qprompt_edge.server.journal import Journal
from qprompt_edge.server.refusal import Refusal
from qprompt_runtime.errors import OutputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos of a cup."""
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "cup").mkdir(exist_ok=True)
        (tmp_path / "cup" / name).write_text(name)
    return tmp_path


def photos(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("[!.]*/*"))


@pytest.mark.parametrize(
    ("second", "status", "words"),
    [
        (("cup/3.jpg", "bowl/3.jpg"), 404, "cup/3.jpg is no longer there"),
        (("cup/2.jpg", "bowl/1.jpg"), 409, "bowl/1.jpg is there already"),
    ],
)
def test_a_change_that_fails_halfway_is_taken_back(
    folder: Path, second: tuple[str, str], status: int, words: str
) -> None:
    journal = Journal(folder)
    with pytest.raises(Refusal, match=words) as caught:
        journal.do("2 photos moved", lambda _trash: [("cup/1.jpg", "bowl/1.jpg"), second], ["bowl"])
    assert caught.value.status == status
    assert photos(folder) == ["cup/1.jpg", "cup/2.jpg"]
    assert journal.last() is None


def test_a_change_that_the_system_refuses_is_taken_back(folder: Path) -> None:
    (folder / "bowl").write_text("no folder")
    with pytest.raises(OutputError, match=r"cannot change .*: File exists"):
        Journal(folder).do(
            "2 photos moved", lambda _trash: [("cup/1.jpg", "lid/1.jpg"), ("cup/2.jpg", "bowl/2.jpg")]
        )
    assert photos(folder) == ["cup/1.jpg", "cup/2.jpg"]


def test_what_is_in_the_way_is_not_overwritten_by_undoing(folder: Path) -> None:
    journal = Journal(folder)
    journal.do("photo deleted", lambda trash: [("cup/1.jpg", f"{trash}/1.jpg")])
    (folder / "cup" / "1.jpg").write_text("another")
    with pytest.raises(Refusal, match=r"cannot undo: cup/1\.jpg is there again"):
        journal.undo()
    assert (folder / "cup" / "1.jpg").read_text() == "another"
    (folder / "cup" / "1.jpg").unlink()
    assert journal.undo() == "photo deleted"
    assert (folder / "cup" / "1.jpg").read_text() == "1.jpg"


def test_a_folder_that_was_made_stays_if_something_was_added(folder: Path) -> None:
    journal = Journal(folder)
    journal.do("photo moved", lambda _trash: [("cup/1.jpg", "bowl/1.jpg")], ["bowl"])
    (folder / "bowl" / "mine.jpg").write_text("mine")
    journal.undo()
    assert photos(folder) == ["bowl/mine.jpg", "cup/1.jpg", "cup/2.jpg"]


@pytest.mark.parametrize("content", ["{", "[1]", '[{"number": 1}]'])
def test_a_damaged_list_of_changes_undoes_nothing(folder: Path, content: str) -> None:
    journal = Journal(folder)
    journal.do("photo deleted", lambda trash: [("cup/1.jpg", f"{trash}/1.jpg")])
    (folder / ".qprompt" / "undo.json").write_text(content)
    with pytest.raises(Refusal, match="nothing to undo"):
        journal.undo()
    change = journal.do("photo deleted", lambda trash: [("cup/2.jpg", f"{trash}/2.jpg")])
    assert change.number == 2  # not that of a trash that is still there
    assert journal.undo() == "photo deleted"


def test_the_trash_is_bounded_and_keeps_the_newest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRASH_BYTES", 4)
    journal = Journal(folder)
    for name in ("1.jpg", "2.jpg"):  # 5 bytes each
        journal.do(f"{name} deleted", lambda trash, name=name: [(f"cup/{name}", f"{trash}/{name}")])
    assert [path.name for path in (folder / ".qprompt" / "trash").iterdir()] == ["2"]
    assert journal.undo() == "2.jpg deleted"
    with pytest.raises(Refusal, match="nothing to undo"):
        journal.undo()


def test_few_steps_are_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNDO_STEPS", 3)
    journal = Journal(folder)
    for number in range(5):
        journal.do(f"class {number} made", lambda _trash: [], [str(number)])
    assert [step["what"] for step in json.loads((folder / ".qprompt" / "undo.json").read_text())] == [
        "class 2 made", "class 3 made", "class 4 made",
    ]  # fmt: skip
    monkeypatch.setattr(module, "TRASH_FILES", 1)
    journal.do("2 photos moved", lambda _trash: [(f"cup/{n}.jpg", f"lid/{n}.jpg") for n in (1, 2)])
    assert journal.undo() == "2 photos moved"  # the last one, however many moves it has
    with pytest.raises(Refusal, match="nothing to undo"):
        journal.undo()
