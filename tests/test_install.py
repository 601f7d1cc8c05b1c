"""install, rollback, status: exit codes, what stays in place, and interruptions at every moment."""

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Result
from scenes import write_photos
from signatures import ISSUED, signed, write_public

from qprompt_edge.shipping import install as installing
from qprompt_edge.shipping.install import NotNewerError, install, rollback
from qprompt_edge.shipping.place import MOST_KEPT
from qprompt_edge.shipping.status import status
from qprompt_runtime import files
from qprompt_runtime.errors import TrustError
from qprompt_runtime.policy import Policy
from qprompt_runtime.prompt_file import ClassName, PromptFile, _parse

Run = Callable[..., Result]


def with_note(content: bytes, note: str) -> bytes:
    """The same prompt as another file."""
    return replace(_parse(content), metadata={"note": note}).to_bytes()


@pytest.fixture
def make(tuned: bytes, tmp_path: Path) -> Callable[..., Path]:
    """`make(7)`: a signed prompt of sequence 7, unlike those of other numbers."""
    names = itertools.count()

    def write(sequence: int, number: int = 0, content: bytes | None = None, **changes: object) -> Path:
        path = tmp_path / "sent" / f"{next(names)}.qpt"
        path.parent.mkdir(exist_ok=True)
        changes = {"expires": None, "sequence": sequence, **changes}
        path.write_bytes(signed(number, content or with_note(tuned, str(sequence)), **changes))
        return path

    return write


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Policy:
    """The device's policy file: enforce, one vendor."""
    write_public(tmp_path / "etc" / "keys" / "vendor.pub")
    said = {"policy": "enforce", "trust": "keys", "tasks": ["belt", "door"]}
    (tmp_path / "etc" / "policy.json").write_text(json.dumps(said), encoding="utf-8")
    monkeypatch.setenv("QPE_POLICY_FILE", str(tmp_path / "etc" / "policy.json"))
    return Policy()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "belt"


def expect(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == (code != 0), result.err
    for word in words:
        assert word in lines[0], lines[0]


def test_a_newer_prompt_is_installed_and_what_ran_is_put_back(
    run: Run, make: Callable[..., Path], policy: Policy, place: Path
) -> None:
    first, second = make(1), make(2)
    done = run("install", first, "--to", place, "--json")
    expect(done, 0)
    assert done.json["signed"]["sequence"] == 1
    assert (place / "prompt.qpt").read_bytes() == first.read_bytes()
    expect(run("install", second, "--to", place), 0)
    assert (place / "prompt.qpt").read_bytes() == second.read_bytes()
    expect(run("rollback", place, "--task", "door"), 3, "expected: door")
    said = run("status", place, "--json")
    expect(said, 0)
    assert (said.json["loads"], said.json["signed"]["sequence"], said.json["highest_sequence"]) == (
        True,
        2,
        2,
    )
    expect(run("rollback", place), 0)
    assert (place / "prompt.qpt").read_bytes() == first.read_bytes()
    after = run("status", "--to", place, "--json")
    expect(after, 0)  # older than what was used here, and allowed
    assert (after.json["signed"]["sequence"], after.json["highest_sequence"]) == (1, 2)
    expect(run("rollback", "--to", place), 1, "nothing ran")
    for old in (first, second):
        expect(run("install", old, "--to", place), 4)
    expect(run("install", make(3), "--to", place), 0)
    with pytest.raises(TrustError, match="older"):
        PromptFile.from_bytes(first.read_bytes())  # the exception ended with the next install
    expect(run("rollback", place), 0)
    assert (
        place / "prompt.qpt"
    ).read_bytes() == first.read_bytes()  # what ran before, not the one that was undone


@pytest.mark.parametrize("command", ["status", "rollback"])
def test_a_folder_is_given_once(run, command: str) -> None:
    for words, reason in ((), "FOLDER is missing"), (("a", "--to", "a"), "give the folder once"):
        result = run(command, *words)
        assert result.code == 2
        assert reason in result.err


def test_only_what_rollback_put_back_is_excepted(
    make: Callable[..., Path], policy: Policy, place: Path
) -> None:
    sent = [make(number) for number in (1, 2, 3)]
    for file in sent:
        install(file, place)
    rollback(place)
    assert PromptFile.from_bytes(sent[1].read_bytes())
    with pytest.raises(TrustError, match="older"):
        PromptFile.from_bytes(sent[0].read_bytes())
    with pytest.raises(TrustError, match="older"):
        PromptFile.from_bytes(signed(expires=None, sequence=2))


def test_every_refusal_has_its_exit_code_and_changes_nothing(
    run: Run, make: Callable[..., Path], policy: Policy, place: Path, tuned: bytes, tmp_path: Path
) -> None:
    running = make(5)
    expect(run("install", running, "--to", place), 0)
    other = replace(_parse(tuned), fingerprint=bytes(16)).to_bytes()
    altered = tmp_path / "altered.qpt"
    altered.write_bytes(make(6).read_bytes()[:-1] + b"\x00")
    plain = tmp_path / "plain.qpt"
    plain.write_bytes(tuned)
    for file, code, words in (
        (altered, 3, "does not verify"),
        (plain, 3, "not signed"),
        (make(6, 1), 3, "not trusted"),
        (make(6, expires=ISSUED), 3, "expired"),
        (running, 4, "runs already"),
        (make(5, issued=ISSUED + 1), 4, "5 was installed"),
        (make(4), 4, "older than what was used here"),
        (make(6, task="door"), 5, "for the task 'door'"),
        (make(6, task="gate"), 5, "expected: belt, door"),
        (make(6, content=other), 5, "tuned for the backbone"),
        (tmp_path / "gone.qpt", 1, "cannot be read"),
    ):
        expect(run("install", file, "--to", place), code, words)
        assert (place / "prompt.qpt").read_bytes() == running.read_bytes()
    expect(run("install", make(6), "--to", place, "--task", "door"), 5, "expected: door")
    assert [path.name for path in (place / "kept").iterdir()] == [f"{status(place).digest[:32]}.qpt"]


def test_a_prompt_that_is_worse_on_canary_photos_is_refused(
    run: Run,
    make: Callable[..., Path],
    policy: Policy,
    place: Path,
    photos: Path,
    tuned: bytes,
    tmp_path: Path,
) -> None:
    canaries = write_photos(tmp_path / "canaries", first=100)
    good = _parse(with_note(tuned, "1"))
    names = good.classes
    bad = replace(
        good, classes=tuple(replace(name, text=names[i - 1].text) for i, name in enumerate(names))
    ).to_bytes()
    expect(run("install", make(1), "--to", place, "--canary", canaries), 0)
    expect(
        run("install", make(2, content=bad), "--to", place, "--canary", canaries), 6, "worse than what runs"
    )
    assert (place / "prompt.qpt").read_bytes() == make(1).read_bytes()
    same = run("install", make(2), "--to", place, "--canary", canaries, "--json")
    expect(same, 0)
    assert same.json["canaries"]["difference"] == 0.0
    assert same.json["canaries"]["photos"] == 18
    expect(run("install", make(3), "--to", place, "--canary", tmp_path / "none"), 1)


def test_a_prompt_that_does_not_work_on_the_backbone_is_refused(
    run: Run, make: Callable[..., Path], policy: Policy, place: Path, tuned: bytes
) -> None:
    good = _parse(tuned)
    endless = replace(good, classes=(ClassName("endless", "very " * 150), *good.classes[1:])).to_bytes()
    expect(run("install", make(1), "--to", place), 0)
    expect(run("install", make(2, content=endless), "--to", place), 1, "needs 152 tokens")
    assert (place / "prompt.qpt").read_bytes() == make(1).read_bytes()


def test_without_a_policy_unsigned_prompts_are_installed_but_not_after_signed_ones(
    run: Run, make: Callable[..., Path], place: Path, tuned: bytes, tmp_path: Path
) -> None:
    plain, other = tmp_path / "plain.qpt", tmp_path / "other.qpt"
    plain.write_bytes(tuned)
    other.write_bytes(with_note(tuned, "other"))
    expect(run("install", plain, "--to", place), 0)
    expect(run("install", plain, "--to", place), 4, "runs already")
    expect(run("install", other, "--to", place), 0)
    expect(run("install", make(3), "--to", place), 0)
    expect(run("install", plain, "--to", place), 4, "not signed and has no sequence number, and 3")
    expect(run("install", make(2), "--to", place), 4, "its sequence number is 2, and 3")


def test_a_prompt_put_there_by_hand_is_kept_too(
    run: Run, make: Callable[..., Path], policy: Policy, place: Path
) -> None:
    place.mkdir()
    by_hand = make(4).read_bytes()
    (place / "prompt.qpt").write_bytes(by_hand)
    expect(run("install", make(3), "--to", place), 4)
    expect(run("install", make(5), "--to", place), 0)
    expect(run("rollback", place), 0)
    assert (place / "prompt.qpt").read_bytes() == by_hand


def test_a_prompt_put_in_the_place_of_an_installed_one_can_be_undone(
    run: Run, make: Callable[..., Path], policy: Policy, place: Path
) -> None:
    expect(run("install", make(1), "--to", place), 0)
    by_hand = make(1, issued=ISSUED + 5).read_bytes()  # as `update` leaves it
    (place / "prompt.qpt").write_bytes(by_hand)
    assert run("status", place, "--json").json["rollback_to"] is not None
    expect(run("rollback", place), 0)
    assert (place / "prompt.qpt").read_bytes() == make(1).read_bytes()
    assert by_hand in [path.read_bytes() for path in (place / "kept").iterdir()]


def test_a_kept_file_that_was_altered_or_expired_is_not_put_back(
    run: Run, make: Callable[..., Path], policy: Policy, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect(run("install", make(1, expires=4_000_000_000), "--to", place), 0)
    kept = next((place / "kept").iterdir())
    genuine = kept.read_bytes()
    expect(run("install", make(2), "--to", place), 0)
    running = (place / "prompt.qpt").read_bytes()
    kept.write_bytes(make(2).read_bytes())
    expect(run("rollback", place), 3, "was altered")
    assert run("status", place).code == 0
    kept.write_bytes(genuine)
    monkeypatch.setattr(time, "time", lambda: 4_000_000_001.0)
    expect(run("rollback", place), 3, "expired")
    assert (place / "prompt.qpt").read_bytes() == running
    with pytest.raises(TrustError):
        PromptFile.from_bytes(genuine)


def test_as_many_are_kept_as_the_page_says(make: Callable[..., Path], policy: Policy, place: Path) -> None:
    for number in range(1, MOST_KEPT + 4):
        install(make(number), place)
    assert len(list((place / "kept").iterdir())) == MOST_KEPT + 1
    for _ in range(MOST_KEPT):
        rollback(place)
    assert status(place).claims.sequence == 3
    assert status(place).before is None


def test_status_says_what_is_wrong(run: Run, make: Callable[..., Path], policy: Policy, place: Path) -> None:
    expect(run("status", place), 1, "nothing is installed")
    assert run("status", place, "--json").json["installed"] is False
    expect(run("install", make(1), "--to", place), 0)
    assert "sequence" in run("status", place).out
    (place / "prompt.qpt").write_bytes(b"")
    done = run("status", place, "--json")
    expect(done, 3, "not signed")
    assert done.json["loads"] is False
    assert run("status").code == run("rollback").code == 2


@pytest.mark.parametrize(
    "content", ["", "{}", '{"highest": 1, "entries": [{}]}', '{"highest": 1, "entries": [1]}']
)
def test_a_damaged_record_is_an_error(
    content: str, run: Run, make: Callable[..., Path], policy: Policy, place: Path
) -> None:
    place.mkdir()
    (place / "installed.json").write_text(content, encoding="utf-8")
    expect(run("install", make(1), "--to", place), 1, "is damaged")


class Killed(BaseException):
    """Stands for a kill."""


def check_after_an_interruption(place: Path, old: bytes | None, new: bytes) -> None:
    """What runs is the old prompt or the new one, and may be loaded."""
    path = place / "prompt.qpt"
    now = path.read_bytes() if path.exists() else None
    assert now in (old, new)
    if now is not None:
        PromptFile.from_bytes(now)


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interruption_at_any_write_leaves_the_old_prompt_or_the_new_one(
    step: str,
    after: bool,
    make: Callable[..., Path],
    policy: Policy,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        installing, "_check_usable", lambda *_: None
    )  # it writes nothing here, and takes long
    names = {"fsync": (files, "_sync"), "replace": (Path, "replace")}
    owner, name = names[step]
    plain, counts = getattr(owner, name), []

    def interrupted(*arguments: object) -> object:
        counts.append(1)
        last = len(counts) == stop
        if last and not after:
            raise Killed
        done = plain(*arguments)
        if last:
            raise Killed
        return done

    stop = 0
    install(make(1), place)
    monkeypatch.setattr(owner, name, interrupted)
    old, sequence, points = make(1).read_bytes(), 1, 0
    for stop in itertools.count(1):
        counts.clear()
        sequence += 1
        new = make(sequence)
        try:
            install(new, place)
        except Killed:
            points += 1
            check_after_an_interruption(place, old, new.read_bytes())
            counts.clear()
            before, stop = stop, 0
            try:
                install(new, place)
            except NotNewerError:
                assert (place / "prompt.qpt").read_bytes() == new.read_bytes()  # it had been installed
            stop = before
            old = (place / "prompt.qpt").read_bytes()
            assert old == new.read_bytes()
        else:
            break
    assert points > 4


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interruption_of_rollback_leaves_a_prompt_that_loads(
    step: str,
    after: bool,
    make: Callable[..., Path],
    policy: Policy,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner, name = {"fsync": (files, "_sync"), "replace": (Path, "replace")}[step]
    plain, left = getattr(owner, name), [0]

    def interrupted(*arguments: object) -> object:
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Killed
        done = plain(*arguments)
        if left[0] == 0:
            raise Killed
        return done

    sent = [make(number) for number in (1, 2, 3)]
    monkeypatch.setattr(installing, "_check_usable", lambda *_: None)
    monkeypatch.setattr(owner, name, interrupted)
    points = 0
    for stop in itertools.count(1):
        folder = place / str(stop)
        for state in (place.parent / "etc").glob("accepted.json"):
            state.unlink()
        for file in sent:
            install(file, folder)
        rollback(folder)  # so that what runs is excepted already
        left[0] = stop
        try:
            rollback(folder)
        except Killed:
            points += 1
            left[0] = 0
            check_after_an_interruption(folder, sent[1].read_bytes(), sent[0].read_bytes())
        else:
            break
        left[0] = 0
    assert points > 3
    assert (folder / "prompt.qpt").read_bytes() == sent[0].read_bytes()


def test_killed_processes_leave_the_old_prompt_or_the_new_one(
    make: Callable[..., Path], policy: Policy, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "_check_usable", lambda *_: None)
    install(make(1), place)
    begin = time.monotonic()
    install(make(2), place)
    took = time.monotonic() - begin
    old, killed = make(2).read_bytes(), 0
    for number in range(3, 3 + int(os.environ.get("QPE_KILLS", "40"))):
        new = make(number)
        child = os.fork()
        if child == 0:
            try:
                install(new, place)
            finally:
                os._exit(0)
        time.sleep(took * 1.2 * (number % 37) / 37)
        os.kill(child, signal.SIGKILL)
        _, code = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(code)
        check_after_an_interruption(place, old, new.read_bytes())
        old = (place / "prompt.qpt").read_bytes()
    assert killed
