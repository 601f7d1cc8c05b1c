"""A prompt that expires, or whose key is revoked, while `watch` or `serve` uses it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY_FOLDER
from signatures import ISSUED, key, signed, write_public
from watching import GREEN, RED, Remembered, frames, made_prompt, picture

from qprompt_edge.cli.answer_lines import AnswerLines
from qprompt_edge.server.answers import Answers
from qprompt_edge.shipping.signing import sign_revocations
from qprompt_edge.watching import prompts as prompts_module
from qprompt_edge.watching.loop import Rules, Watch
from qprompt_edge.watching.prompts import Prompts
from qprompt_runtime import accepted
from qprompt_runtime.admission import lapsed
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.cose_sign1 import Claims
from qprompt_runtime.errors import PromptFileError, TrustError, TrustWarning
from qprompt_runtime.files import write_atomic
from qprompt_runtime.policy import Policy

HOUR = 3600


class Clock:
    """The time that the policy sees."""

    now = float(ISSUED)

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(accepted, "time", clock)
    monkeypatch.setattr(prompts_module, "_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(prompts_module, "_RETRY_SECONDS", 0.0)
    return clock


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    write_public(tmp_path / "keys" / "vendor.pub", revokes=True)
    return tmp_path / "keys"


@pytest.fixture(scope="module")
def content(tiny: Backbone) -> bytes:
    return made_prompt(tiny).to_bytes()


class Device:
    """A loop over prompts, fed by hand."""

    def __init__(self, paths: list[Path], policy: Policy) -> None:
        self.notes: list[str] = []
        self.sink = Remembered()
        self.prompts = Prompts(paths, Backbone.load(TINY_FOLDER), policy=policy)
        self.watch = Watch(self.prompts, Rules(), [self.sink], "camera", self.notes.append)

    def see(self, *colours: tuple[int, int, int]) -> list[tuple[str, str]]:
        """Prompt and label of the answers to frames of these colours."""
        before = len(self.sink.answers)
        self.watch.run(frames(*map(picture, colours)), lambda: True)
        return [(it.prompt, it.label) for it in self.sink.answers[before:]]


@pytest.fixture
def device(content: bytes, keys: Path, tmp_path: Path, clock: Clock) -> Callable[..., Device]:
    """`device(belt=ISSUED + HOUR)`: its prompts, signed, with when they expire."""

    def make(level: str = "enforce", **expires: int | None) -> Device:
        for name, moment in expires.items():
            (tmp_path / f"{name}.qpt").write_bytes(signed(content=content, task=name, expires=moment))
        return Device([tmp_path / f"{name}.qpt" for name in expires], Policy.of(level, keys))

    return make


def test_an_expired_prompt_gives_no_answers_until_a_new_one_comes(
    device: Callable[..., Device], content: bytes, clock: Clock, tmp_path: Path
) -> None:
    found = device(belt=ISSUED + HOUR)
    assert found.see(RED) == [("belt", "red wall")]
    clock.now += HOUR
    assert found.see(RED, GREEN) == []
    (note,) = found.notes
    assert "belt.qpt: it expired at 2026-01-01 01:00:00 UTC" in note
    assert "gives no answers until a prompt comes that passes" in note
    assert list(found.sink.silent[-1]) == ["belt"]
    clock.now -= HOUR  # a clock that is set back does not revive it
    assert found.see(RED) == []
    write_atomic(tmp_path / "belt.qpt", signed(content=content, sequence=8, expires=None))
    assert found.see(GREEN) == [("belt", "green wall")]
    assert "is taken up" in found.notes[-1]
    assert len(found.notes) == 2
    assert found.sink.silent[-1] == {}


def test_other_prompts_go_on(device: Callable[..., Device], clock: Clock) -> None:
    found = device(belt=ISSUED + HOUR, door=None)
    clock.now += HOUR
    assert found.see(RED) == [("door", "red wall")]


def test_under_warn_it_is_said_once_and_answers_go_on(device: Callable[..., Device], clock: Clock) -> None:
    found = device("warn", belt=ISSUED + HOUR)
    clock.now += HOUR
    assert len(found.see(RED, GREEN, RED)) == 3
    (note,) = found.notes
    assert note.startswith("warning: ")
    assert "it expired" in note
    with pytest.warns(TrustWarning, match="expired"):
        started = device("warn", belt=ISSUED + HOUR)
    assert len(started.see(RED)) == 1
    assert started.notes == []  # it was said at the start


def test_a_key_that_is_revoked_or_taken_away_stops_its_prompt(
    device: Callable[..., Device], keys: Path, clock: Clock
) -> None:
    found = device(belt=None)
    public = (keys / "vendor.pub").read_bytes()
    write_public(keys / "vendor.pub", 3)
    assert found.see(RED) == []
    assert "not trusted" in found.notes[-1]
    (keys / "vendor.pub").write_bytes(public)
    assert found.see(RED) == [("belt", "red wall")]
    assert "gives answers again" in found.notes[-1]
    write_public(keys / "root.pub", 1, revokes=True)
    from signatures import public as public_key

    revoked = sign_revocations({public_key().key_id}, key(1), Claims("revocation", 1, ISSUED))
    (keys / "lost.revoked").write_bytes(revoked)
    assert found.see(RED) == []
    assert "revoked" in found.notes[-1]


def test_a_refused_file_is_taken_up_once_its_key_is_trusted(
    device: Callable[..., Device], content: bytes, keys: Path, tmp_path: Path
) -> None:
    found = device(belt=None)
    write_atomic(tmp_path / "belt.qpt", signed(3, content=content, sequence=8, expires=None))
    assert found.see(RED, RED) == [("belt", "red wall")] * 2
    assert len(found.notes) == 1
    write_public(keys / "second.pub", 3)
    assert found.see(RED) == [("belt", "red wall")]
    assert "is taken up" in found.notes[-1]


def test_installed_prompts_have_the_names_of_their_folders(content: bytes, tmp_path: Path) -> None:
    paths = [tmp_path / name / "prompt.qpt" for name in ("belt", "door")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.raises(PromptFileError, match="two prompts are called prompt"):
        Prompts(paths, Backbone.load(TINY_FOLDER))
    for path in paths:
        (path.parent / "installed.json").touch()
    assert list(Prompts(paths, Backbone.load(TINY_FOLDER)).labels) == ["belt", "door"]


def test_json_says_which_prompt_gives_no_answers(capsys: pytest.CaptureFixture[str]) -> None:
    AnswerLines(True, True, False).withdrawn({"belt": "belt.qpt: it expired"})
    line = capsys.readouterr().out
    assert '"prompt": "belt", "error": "belt.qpt: it expired"' in line
    AnswerLines(False, True, False).withdrawn({"belt": "belt.qpt: it expired"})
    assert capsys.readouterr().out == ""


def test_looking_again_writes_the_time_once_an_hour(keys: Path, clock: Clock, tmp_path: Path) -> None:
    state = tmp_path / "accepted.json"
    rules = Policy("enforce", (keys,), states=(state,))
    data, written = signed(expires=None), []
    for _ in range(180):
        assert lapsed(data, rules) is None
        written.append(state.read_bytes())
        clock.now += 60
    assert len(set(written)) == 3
    assert lapsed(data, Policy()) is None  # without a policy nothing is looked at


def test_serve_answers_with_an_expired_prompt_no_more(
    content: bytes, keys: Path, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPE_TRUST", str(keys))
    prompt = tmp_path / "belt.qpt"
    prompt.write_bytes(signed(content=content, expires=ISSUED + HOUR))
    answers = Answers({"backbone": str(TINY_FOLDER), "provider": "auto", "threads": 1})
    photo = frames(picture(RED)).__next__().decode()
    assert answers.predict(prompt, photo, None)["predictions"][0]["label"] == "red wall"
    clock.now += HOUR
    with pytest.raises(TrustError, match=r"belt\.qpt: it expired"):
        answers.predict(prompt, photo, None)
