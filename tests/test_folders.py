"""What lies in a folder.

Every spelling of its path, what systems leave there, and what a network share will not list.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import pytest
from command_line import Result
from scenes import complaint

from qprompt_edge.data.folders import SYSTEM_NAMES
from qprompt_edge.data.photos import find_photos, list_images, read_labels_csv


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def refuse_stat(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    """A share that lists this name and will not say what it is."""
    stat = Path.stat

    def failing(self: Path, **options: bool) -> os.stat_result:
        if self.name == name and options.get("follow_symlinks", True):
            raise OSError(code, os.strerror(code))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", failing)


# ---------------------------------------------------------------------- spellings of a path


@pytest.mark.parametrize("given", [".", "./", "..", "a/..", "../a", "a/../.", "link", "up/link", "link/."])
def test_a_folder_is_found_by_every_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    top = make(tmp_path / "top", "a/1.jpg", "a/a/2.jpg")
    (top / "a" / "link").symlink_to(top)
    (top / "a" / "up").symlink_to("..")
    (top / "link").symlink_to("a")
    monkeypatch.chdir(top / "a")
    files, problems = list_images([Path(given)])
    assert {path.resolve() for path in files} == {top / "a/1.jpg", top / "a/a/2.jpg"}
    assert problems == []


@pytest.mark.parametrize(
    ("given", "where"), [(".", "."), ("./", "."), ("..", "a"), ("b/..", "."), ("a/", "..")]
)
def test_class_folders_are_found_by_every_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, where: str
) -> None:
    photos = make(tmp_path / "a", "a/1.jpg", "b/2.jpg")
    monkeypatch.chdir(photos / where)
    found = find_photos(Path(given))
    assert (found.classes, found.labels.tolist()) == (("a", "b"), [0, 1])


def test_folders_that_share_an_inode_number_are_not_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/x/1", "a/y/2", "b/1")
    stat = Path.stat

    def numberless(self: Path, **options: bool) -> os.stat_result:
        facts = list(stat(self, **options))
        facts[1] = 0
        return os.stat_result(facts)

    monkeypatch.setattr(Path, "stat", numberless)
    assert find_photos(tmp_path).labels.tolist() == [0, 0, 1]
    assert len(list_images([tmp_path])[0]) == 3


def test_class_folders_are_not_looked_up_one_by_one_in_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *(f"{number}/1" for number in range(100)))
    compared = []
    equal = PurePath.__eq__
    monkeypatch.setattr(PurePath, "__eq__", lambda self, other: compared.append(1) or equal(self, other))
    assert len(find_photos(tmp_path).classes) == 100
    assert len(compared) < 1000


# ---------------------------------------------------------------------- what systems and programs leave there


@pytest.mark.parametrize(
    "name",
    [
        *(
            "lost+found",
            "$RECYCLE.BIN",
            "System Volume Information",
            "__pycache__",
            "#recycle",
            "@Recycle",
            ".Trashes",
        ),
        *(".Trash-1000", "@eaDir", "#snapshot", ".AppleDouble", "__MACOSX", "found.000", "LOST.DIR"),
    ],
)
@pytest.mark.parametrize("inside", ["", "1.jpg", "a/1.jpg"])
def test_folders_of_the_system_are_no_classes(tmp_path: Path, name: str, inside: str) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg")
    for place in (tmp_path, tmp_path / "a"):
        (place / name).mkdir()
        if inside:
            make(place / name, inside)
    photos = find_photos(tmp_path)
    assert (photos.classes, len(photos.paths), photos.skipped) == (("a", "b"), 2, ())
    assert list_images([tmp_path]) == (list(photos.paths), [])


def test_names_of_the_system_are_compared_in_lower_case() -> None:
    assert {name for name in SYSTEM_NAMES if name != name.lower()} == set()


@pytest.mark.parametrize("name", ["#5", "@home", "recycled", "$5", "found", "trash", "lost"])
def test_names_that_look_alike_are_classes(tmp_path: Path, name: str) -> None:
    assert name in find_photos(make(tmp_path, f"{name}/1.jpg", "b/1.jpg")).classes


@pytest.mark.parametrize(
    "name",
    ["1.json", "1.jpg.supplemental-metadata.json", "1.AAE", "1.xmp", "1.txt", "Thumbs.db", ".DS_Store"],
)
def test_files_beside_photos_are_passed_over(tmp_path: Path, name: str) -> None:
    make(tmp_path, "a/1.jpg", "b/1.jpg", f"a/{name}", f"b/more/{name}")
    photos = find_photos(tmp_path)
    assert (len(photos.paths), photos.skipped) == (2, ())
    assert list_images([tmp_path / "a"]) == ([tmp_path / "a/1.jpg"], [])
    assert list_images([tmp_path / "a" / name]) == ([tmp_path / "a" / name], [])  # who names it, means it


@pytest.mark.parametrize(
    "content", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n", b"\0\0\0\x18ftypheic", b"RIFF\0\0\0\0WEBP"]
)
def test_a_photo_with_the_ending_of_such_a_file_is_a_photo(tmp_path: Path, content: bytes) -> None:
    make(tmp_path, "a/1.jpg", "a/2.thm")
    (tmp_path / "a" / "2.txt").write_bytes(content)
    (tmp_path / "a" / "2.thm").write_bytes(content)
    assert list_images([tmp_path])[0] == [tmp_path / "a/1.jpg", tmp_path / "a/2.txt"]


def test_a_class_of_such_files_alone_holds_no_photos(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "b/1.json")
    assert complaint(find_photos, tmp_path).startswith(
        "class b has no readable image (its folder holds no photos)"
    )
    assert complaint(list_images, [tmp_path / "b"]) == f"no photos in {tmp_path / 'b'}"


# ---------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EACCES, errno.EIO, errno.ETIMEDOUT])
def test_a_class_that_the_share_says_nothing_about_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    make(tmp_path, "a/1", "b/1", "c/1")
    refuse_stat(monkeypatch, "b", code)
    reason = os.strerror(code)
    assert complaint(find_photos, tmp_path).startswith(
        f"{tmp_path / 'b'}: cannot be read: {reason}; it may be a class"
    )
    assert complaint(find_photos, tmp_path / "b").startswith(
        f"{tmp_path / 'b'}: cannot be read: {reason}; check that its drive"
    )
    assert complaint(list_images, [tmp_path / "b"]) == f"{tmp_path / 'b'}: cannot be read: {reason}"
    files, problems = list_images([tmp_path])
    assert len(files) == 2
    assert [(skip.path, skip.reason) for skip in problems] == [(tmp_path / "b", f"cannot be read: {reason}")]


def test_what_cannot_be_read_within_a_class_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/1", "a/deep/2", "b/1", "b/gone")
    refuse_stat(monkeypatch, "deep", errno.ESTALE)
    (tmp_path / "labels.csv").write_text("path,label\na/1,x\nb/1,y\na/deep,y\n")
    photos = find_photos(tmp_path)
    assert [(skip.path.name, skip.reason) for skip in photos.skipped if skip.path.name != "labels.csv"] == [
        ("deep", "cannot be read: Stale file handle")
    ]
    listed = read_labels_csv(tmp_path / "labels.csv")
    assert [skip.reason for skip in listed.skipped] == ["cannot be read: Stale file handle"]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1", "a/deep/2", "b/1")
    iterdir = Path.iterdir

    def failing(self: Path) -> Iterator[Path]:
        if self.name in closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", failing)
    closed = {"deep"}
    skip = [(tmp_path / "a/deep", "cannot be read: Permission denied")]
    assert [(s.path, s.reason) for s in find_photos(tmp_path).skipped] == skip
    assert [(s.path, s.reason) for s in list_images([tmp_path])[1]] == skip
    closed = {"a"}
    assert "class a has no readable image" in complaint(find_photos, tmp_path)
    assert complaint(list_images, [tmp_path / "a"]) == f"{tmp_path / 'a'}: cannot be read: Permission denied"


# -------------------------------------------------------------------- the folder above the one that was meant


@pytest.mark.parametrize(
    "names", [("train", "val"), ("Train", "Test"), ("train", "valid", "test"), ("training_set", "test_set")]
)
def test_the_parts_of_a_data_set_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    make(tmp_path, *(f"{name}/{label}/1" for name in names for label in "ab"))
    message = complaint(find_photos, tmp_path)
    assert "are parts of a data set, not classes" in message
    assert f"{tmp_path / names[0]} as the folder of photos, and {tmp_path / sorted(names[1:])[0]}" in message


@pytest.mark.parametrize(
    "names", [("train", "bus"), ("test", "val"), ("train", "testament"), ("good", "test")]
)
def test_classes_that_are_called_like_a_part(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert find_photos(make(tmp_path, *(f"{name}/1" for name in names))).classes == tuple(sorted(names))


# ---------------------------------------------------------------------- predict


def test_predict_answers_for_a_folder_with_sidecars_and_says_what_is_lost(
    run: Callable[..., Result], tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = tmp_path / "made.qpt"
    assert run("adapt", photos, "-o", prompt, "--epochs", 1).code == 0
    folder = make(photos / "red brick", "00.json", "01.AAE", "02.xmp")
    monkeypatch.chdir(folder)
    result = run("predict", ".", "--prompt", prompt)
    assert (result.code, len(result.out.splitlines()), result.err) == (0, 6, "")
    (folder / "lost.png").symlink_to("nowhere")
    result = run("predict", ".", "--prompt", prompt)
    assert (result.code, len(result.out.splitlines())) == (1, 6)
    assert "skipped lost.png: is a link that leads nowhere" in result.err
    assert "1 of 7 files could not be read" in result.err
    assert run("predict", "00.json", "--prompt", prompt).code == 1
