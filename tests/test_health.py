"""How prompts fare: what is counted, for how long, and what Prometheus is told of it."""

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Result, assert_refused
from conftest import TINY_FOLDER
from patience import PATIENCE
from PIL import Image
from watching import ACCEPT_ALL, BLUE, RED, Remembered, frames, picture, write_prompt

from qprompt_edge.watching.answers import Answer
from qprompt_edge.watching.frames import Frame
from qprompt_edge.watching.health import Health, PromptHealth, Report, Version
from qprompt_edge.watching.health_sink import HealthSink, metrics_file
from qprompt_edge.watching.loop import Rules, Watch
from qprompt_edge.watching.prometheus import exposition
from qprompt_edge.watching.prompts import Prompts
from qprompt_runtime.backbone import Backbone
from qprompt_runtime.prompt_file import read_prompt_file

SCORES = (0.5, 0.25, 0.25, 0.125, -0.5)
VERSION = Version("ab" * 32, "belt", 7, "small", "cd" * 16, SCORES)
HOUR = 3600.0


class Clock:
    """A clock that a test sets."""

    now = 1000 * HOUR

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    found = Health(clock)
    found.take_up("belt", VERSION)
    return found


def told(health: Health) -> PromptHealth:
    (found,) = health.prompts()
    return found


def add(health: Health, *scores: float | None, none: bool | None = False) -> None:
    for score in scores:
        health.answered("belt", 1_800_000_000.0, 0.75, none, score)


# ---------------------------------------------------------------------- counts


def test_nothing_is_told_of_nothing(health: Health):
    found = told(health)
    assert (found.total, found.answers, found.hours, found.last, found.age) == (0, 0, 0, None, None)
    assert (found.none_of_these, found.confidence, found.drift) == (None, None, None)


def test_drift_is_the_largest_shortfall_of_the_five_shares(health: Health):
    add(health, 0.5, 0.4, 0.3, 0.25, 0.2, -0.4, -0.5, -0.6, -0.7, -0.8)
    found = told(health)
    assert found.reached == (0.1, 0.4, 0.4, 0.5, 0.7)
    assert found.drift == pytest.approx(0.8 - 0.1)
    assert found.confidence == 0.75


def test_pictures_like_the_known_photos_do_not_drift(health: Health):
    add(health, *[0.6] * 80, *[0.3] * 15, *[0.2] * 3, 0.0, -0.6)
    assert told(health).drift == pytest.approx(0.0, abs=1e-9)
    add(health, *[0.6] * 100)  # better than they is no drift
    assert told(health).drift == 0


def test_without_scores_there_is_no_drift_and_without_telling_no_share(clock: Clock):
    health = Health(clock)
    health.take_up("belt", Version("", None, None, "small", "", ()))
    add(health, None, None, none=None)
    found = told(health)
    assert (found.answers, found.none_of_these, found.reached, found.drift) == (2, None, (), None)
    assert found.total_none is None
    assert "none_of_these" not in exposition(Report("cam", True, True, 2, 0, (found,)), "1.2")


def test_the_window_is_a_day_by_a_clock_that_nobody_sets(health: Health, clock: Clock):
    add(health, -1.0, -1.0, none=True)
    clock.now += 23 * HOUR
    add(health, 1.0, 1.0)
    found = told(health)
    assert (found.answers, found.none_of_these, found.drift, found.hours) == (4, 0.5, pytest.approx(0.49), 23)
    clock.now += HOUR
    found = told(health)
    assert (found.answers, found.none_of_these, found.drift) == (2, 0, 0)
    assert (found.total, found.total_none, found.age) == (4, 2, HOUR)
    clock.now += 30 * HOUR
    found = told(health)
    assert (found.answers, found.confidence, found.drift, found.total) == (0, None, None, 4)
    assert 23 <= found.hours <= 24


def test_what_is_kept_does_not_grow(health: Health, clock: Clock):
    for _ in range(1000):
        add(health, 1.0)
        clock.now += HOUR
    assert told(health).answers == 23
    assert len(health._prompts["belt"].hours) == 24


def test_a_new_version_is_counted_anew(health: Health, clock: Clock):
    add(health, -1.0, none=True)
    clock.now += 600
    health.take_up("belt", VERSION)  # the same as before
    assert told(health).answers == 1
    health.take_up("belt", Version("ef" * 32, "belt", 8, "small", "cd" * 16, SCORES))
    found = told(health)
    assert (found.answers, found.hours, found.total, found.total_none) == (0, 0, 1, 1)


def test_threads_lose_no_answer(health: Health):
    threads = [threading.Thread(target=add, args=(health, *[1.0] * 2000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told(health).total == 8000


# ---------------------------------------------------------------------- text for Prometheus

TEXT = """\
# HELP qprompt_build_info The program's version, as a label.
# TYPE qprompt_build_info gauge
qprompt_build_info{source="a \\"b\\" \\\\ c\\n",version="1.2"} 1
# HELP qprompt_running Whether frames are answered: 1, or 0 after the end.
# TYPE qprompt_running gauge
qprompt_running{source="a \\"b\\" \\\\ c\\n"} 1
# HELP qprompt_source_up Whether the camera, stream or folder is there.
# TYPE qprompt_source_up gauge
qprompt_source_up{source="a \\"b\\" \\\\ c\\n"} 0
# HELP qprompt_frames_total Frames answered since the start.
# TYPE qprompt_frames_total counter
qprompt_frames_total{source="a \\"b\\" \\\\ c\\n"} 3
"""


def test_the_text_is_as_the_format_has_it():
    text = exposition(Report('a "b" \\ c\n', True, False, 3, None, ()), "1.2")
    assert text == TEXT


def test_every_figure_of_a_prompt_is_in_the_text(health: Health, clock: Clock):
    add(health, 0.5, 0.3, -0.7, none=False)
    clock.now += 90
    text = exposition(Report("cam", True, True, 3, 1, health.prompts()), "1.2")
    lines = text.splitlines()
    samples = dict(re.fullmatch(r"(\w+\{.*\}) (\S+)", line).groups() for line in lines if line[0] != "#")  # type: ignore[union-attr]
    labels = 'source="cam",prompt="belt"'
    more = f'task="belt",sequence="7",sha256="{"ab" * 32}",backbone="small",fingerprint="{"cd" * 16}"'
    assert samples[f"qprompt_prompt_info{{{labels},{more}}}"] == "1"
    assert samples[f"qprompt_answers_total{{{labels}}}"] == "3"
    assert samples[f"qprompt_none_of_these_total{{{labels}}}"] == "0"
    assert samples[f"qprompt_answer_age_seconds{{{labels}}}"] == "90"
    assert samples[f"qprompt_day_seconds{{{labels}}}"] == "90"
    assert samples[f"qprompt_day_answers{{{labels}}}"] == "3"
    assert samples[f"qprompt_day_none_of_these_ratio{{{labels}}}"] == "0"
    assert samples[f"qprompt_day_confidence_ratio{{{labels}}}"] == "0.75"
    assert samples[f'qprompt_day_score_reached_ratio{{{labels},share="0.8"}}'] == "0.333333"
    assert samples[f'qprompt_day_score_reached_ratio{{{labels},share="0.99"}}'] == "0.666667"
    assert samples[f"qprompt_day_drift{{{labels}}}"] == "0.466667"
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families)) == 15
    assert {sample.partition("{")[0] for sample in samples} == set(families)


# ---------------------------------------------------------------------- in the loop


def test_the_loop_scores_though_nothing_is_refused(tmp_path: Path):
    tiny = Backbone.load(
        TINY_FOLDER
    )  # of its own: last bits depend on what a text tower was opened for before
    file = write_prompt(tmp_path / "walls.qpt", tiny, calibration=ACCEPT_ALL)
    answers = []
    for accept, scored in ((None, False), (None, True), (0.8, False)):
        remembered = Remembered()
        prompts = Prompts([file], tiny, accept, scored=scored)
        Watch(prompts, Rules(), [remembered], "camera", print).run(frames(picture(RED)), lambda: True)
        answers += remembered.answers
    assert [answer.none_of_these for answer in answers] == [None, None, True]
    assert answers[0].score is None
    assert answers[1].score == answers[2].score
    assert -8 < answers[1].score < 8  # type: ignore[operator]
    assert answers[1].predictions == answers[0].predictions
    version = prompts.versions["walls"]
    assert (version.task, version.accept_scores) == (None, ACCEPT_ALL.accept_scores)
    assert version.fingerprint == read_prompt_file(file).fingerprint.hex()


def test_the_sink_tells_at_the_start_now_and_then_and_at_the_end():
    reports: list[Report] = []
    news = threading.Semaphore(0)

    def tell(report: Report) -> None:
        reports.append(report)
        news.release()

    sink = HealthSink("cam", lambda: {"belt": VERSION}, [tell], every=0.01)
    sink.ready({}, (), "cam")
    assert news.acquire(timeout=PATIENCE)
    frame = Frame(picture(RED), "cam", 1.0)
    for prompt in ("belt", "other"):
        sink.answer(
            Answer(1.0, "cam", "frame", prompt, "a", 0.5, None, "a", True, (("a", 0.5),), None, -0.6), frame
        )
    sink.skipped(frame, "no photo")
    sink.present(False, "gone")
    for _ in range(3):
        assert news.acquire(timeout=PATIENCE)
    sink.close()
    assert [report.running for report in reports[-2:]] == [True, False]
    last = reports[-1]
    assert (last.source, last.here, last.frames, last.unread) == ("cam", False, 1, 1)
    assert [(it.prompt, it.total, it.drift) for it in last.prompts] == [("belt", 1, 0.99)]


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path):
    notes: list[str] = []
    write = metrics_file(tmp_path / "there" / "a.prom", "1.2", notes.append)
    report = Report("cam", True, True, 0, 0, ())
    (tmp_path / "there").write_text("a file")
    write(report)
    write(report)
    (note,) = notes
    assert "cannot write" in note
    (tmp_path / "there").unlink()
    write(report)
    write(report)
    assert notes[1:] == [f"{tmp_path / 'there' / 'a.prom'} is written again"]
    assert (tmp_path / "there" / "a.prom").read_text() == exposition(report, "1.2")


# ---------------------------------------------------------------------- the command line


@pytest.fixture
def watch(run: Callable[..., Result], tiny: Backbone, tmp_path: Path) -> Callable[..., Result]:
    file = write_prompt(tmp_path / "walls.qpt", tiny, calibration=ACCEPT_ALL)
    (tmp_path / "seen").mkdir()
    for name, shown in (("a", picture(RED)), ("b", picture(BLUE))):
        Image.fromarray(shown).save(tmp_path / "seen" / f"{name}.png")
    (tmp_path / "seen" / "c.png").write_bytes(b"no photo")
    return lambda *words: run(
        "watch", tmp_path / "seen", "--once", "--prompt", file, "--backbone", TINY_FOLDER, *words
    )


def test_watch_writes_a_file_and_writes_over_its_own_only(watch: Callable[..., Result], tmp_path: Path):
    file = tmp_path / "node" / "watch.prom"
    for _ in range(2):
        result = watch("--metrics", file, "--accept", "0.8")
        assert result.code == 1  # a frame could not be read
        text = file.read_text()
        labels = f'source="{tmp_path / "seen"}"'
        for line in (
            f"qprompt_running{{{labels}}} 0",
            f"qprompt_frames_total{{{labels}}} 2",
            f"qprompt_frames_unread_total{{{labels}}} 1",
            f'qprompt_none_of_these_total{{{labels},prompt="walls"}} 2',
            f'qprompt_day_answers{{{labels},prompt="walls"}} 2',
            f'qprompt_day_score_reached_ratio{{{labels},prompt="walls",share="0.8"}} 0',
        ):
            assert line in text.splitlines(), text
        assert "qprompt_day_drift" in text
    other = tmp_path / "walls.qpt"
    before = other.read_bytes()
    assert_refused(watch("--metrics", other, "--json"), "holds no metrics", "choose another file")
    assert other.read_bytes() == before
    assert_refused(watch("--metrics", tmp_path, "--json"), "cannot write", "Is a directory")
