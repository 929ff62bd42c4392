"""What the page is told of its jobs: enough to show them after any reload, and never another's."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modules.engine.jobs import OVER, Jobs
from modules.tasks import ClassConditional, TaskError, TextToImage
from modules.ui import line, runs
from tests.ui.fake import FakeEngine


def awaited(answer):
    """The result of a coroutine; on a thread of its own, for a browser test's loop may still own this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, answer).result()


class Studio:
    """An engine whose steps wait for `go`, its jobs, and the page's questions."""

    def __init__(self):
        self.engine, self.go = FakeEngine(pace=0), threading.Semaphore(0)
        self.engine.start()
        self.jobs = Jobs(self.work)
        look, cancel, sooner = line.answers(self.engine, self.jobs)
        self.look = lambda owner="me", **asked: awaited(look({"owner": owner, **asked}))
        self.cancel = lambda run, owner="me": cancel({"owner": owner, "run": run})
        self.sooner = lambda run, owner="me": sooner({"owner": owner, "run": run})

    def work(self, task, owner):
        return self.paced(runs.work(self.engine, task, owner))

    def paced(self, messages):
        try:
            for message in messages:
                self.go.acquire()
                yield message
        finally:
            messages.close()

    def press(self, owner="me", prompt="a cat", steps=2):
        return self.jobs.submit(TextToImage(prompt=prompt, steps=steps, seed=7), owner).id

    def until(self, run, condition):
        with self.jobs._changed:
            assert self.jobs._changed.wait_for(lambda: condition(self.jobs._entries[run]), 60)

    def finish(self, run):
        self.go.release(100)
        self.until(run, lambda entry: entry.state in OVER)


@pytest.fixture
def studio():
    studio = Studio()
    yield studio
    studio.go.release(1000)


def test_a_page_without_jobs_is_told_so_at_once(studio):
    told = studio.look(stamp="")
    assert (told["now"], told["over"], told["queue"]) == (None, [], [])


def test_a_page_that_opens_in_the_middle_of_a_run_sees_it(studio):
    run = studio.press(steps=3)
    studio.go.release()
    studio.until(run, lambda entry: entry.version == 1)
    now = studio.look()["now"]
    assert (now["phase"], now["run"], now["call"]) == ("running", run, 0)
    assert len(now["live"]["t"]) == 3
    assert now["preview"].startswith("data:image/jpeg")
    assert "live" not in studio.look(run=run)["now"]  # it has the levels
    assert studio.look("them")["now"] is None


def test_a_page_that_opens_after_the_run_gets_the_picture(studio):
    run = studio.press()
    studio.finish(run)
    told = studio.look()
    assert told["now"] is None
    [done] = told["over"]
    assert (done["phase"], done["run"], len(done["pictures"])) == ("done", run, 1)
    assert studio.look(seen=told["seen"])["over"] == []
    assert studio.look("")["over"] == []


def test_an_answer_that_was_lost_is_given_again(studio):
    before = studio.look()["seen"]
    run = studio.press()
    studio.finish(run)
    assert [one["run"] for one in studio.look(seen=before)["over"]] == [run]
    assert [one["run"] for one in studio.look(seen=before)["over"]] == [run]


def test_what_another_start_of_the_studio_counted_means_nothing(studio):
    run = studio.press()
    studio.finish(run)
    assert [one["run"] for one in studio.look(seen="another:99")["over"]] == [run]


def test_those_that_wait_are_listed_with_their_places(studio):
    first, second, third = studio.press(), studio.press(prompt="a dog"), studio.press(prompt="")
    studio.until(first, lambda entry: entry.state == "running")
    told = studio.look()
    assert told["now"]["run"] == first
    assert [(one["run"], one["title"], one["place"]) for one in told["queue"]] == [
        (second, "a dog", "next"),
        (third, "No prompt", "number 2"),
    ]
    studio.press("them")
    assert studio.look("them")["now"]["text"] == "Waiting: next"
    assert studio.cancel(third)
    assert [one["run"] for one in studio.look()["queue"]] == [second]


def test_only_ones_own_jobs_can_be_moved(studio):
    first, second, third = studio.press(), studio.press(prompt="a dog"), studio.press(prompt="a cow")
    studio.until(first, lambda entry: entry.state == "running")
    assert not studio.sooner(third, "them")
    assert [(one["run"], one["first"]) for one in studio.look()["queue"]] == [(second, True), (third, False)]
    assert studio.sooner(third)
    assert [one["run"] for one in studio.look()["queue"]] == [third, second]


def test_only_ones_own_jobs_can_be_cancelled(studio):
    run = studio.press()
    assert not studio.cancel(run, "them")
    assert not studio.cancel(None)
    assert studio.cancel(run)
    seen = f"{studio.jobs.epoch}:0"
    assert [one["phase"] for one in studio.look(seen=seen)["over"]] == ["stopped"]
    assert studio.look()["over"] == []  # nothing to show to a page that opens now


def test_a_failure_is_one_sentence(studio):
    studio.engine.breaks = ZeroDivisionError("secret")
    run = studio.press(steps=5)
    studio.finish(run)
    [failed] = studio.look(seen=f"{studio.jobs.epoch}:0")["over"]
    assert failed["phase"] == "refused"
    assert "ZeroDivisionError" in failed["text"]
    assert "secret" not in failed["text"]


def test_what_cannot_be_is_refused_at_the_press(studio):
    with pytest.raises(TaskError, match="dragon"):
        studio.jobs.submit(ClassConditional(class_name="dragon"), "me")


def test_a_run_that_is_cancelled_saves_nothing(studio):
    run = studio.press(steps=1)
    studio.go.release(2)  # the step, and the place to stop at before the picture is saved
    studio.until(run, lambda entry: entry.version == 1)
    studio.cancel(run)
    studio.go.release(9)
    with studio.jobs._changed:
        assert studio.jobs._changed.wait_for(lambda: studio.jobs._running is None, 60)
    assert list(studio.engine.history.folder.glob("*.png")) == []


def test_deleted_pictures_are_not_given_back(studio):
    run = studio.press()
    studio.finish(run)
    [done] = studio.look()["over"]
    Path(done["pictures"][0]["file"]["path"]).unlink()
    assert studio.look()["over"] == []


@pytest.mark.parametrize(
    "asked", [None, [], {"owner": 5}, {"owner": "me", "seen": {}, "run": [], "stamp": 0}]
)
def test_nonsense_is_answered(studio, asked):
    look, *others = line.answers(studio.engine, studio.jobs)
    assert awaited(look(asked))["now"] is None
    assert not any(act(asked if isinstance(asked, dict) else {}) for act in others)
