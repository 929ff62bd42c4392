"""Jobs: every life follows the arrows, turns are fair, a cancel is heeded at once, nobody need watch."""

import gc
import threading
import weakref
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modules.engine import jobs as room
from modules.engine.jobs import CANCELLED, DONE, FAILED, OVER, QUEUED, RUNNING, JobError, Jobs
from modules.tasks import TextToImage

ARROWS = {
    *((QUEUED, RUNNING), (QUEUED, CANCELLED), (RUNNING, QUEUED)),
    *((RUNNING, DONE), (RUNNING, FAILED), (RUNNING, CANCELLED)),
}


class Bench:
    """Work that takes a step when it is told to, and writes down what happened."""

    def __init__(self, **how):
        self.steps = threading.Semaphore(0)
        self.taken, self.decoded, self.closed, self.begun = Counter(), [], [], []
        self.jobs = Jobs(self.work, **how)

    def work(self, task, owner):
        if task.prompt == "refuse":
            raise ValueError("no")
        return self.reports(task, owner)

    def reports(self, task, owner):
        self.begun.append((owner, task.seed))
        try:
            for i in range(task.steps):
                self.steps.acquire()
                if task.prompt == "break":
                    raise ZeroDivisionError
                self.taken[task.seed] += 1
                pause = task.prompt == "long" and i + 1 < task.steps
                yield {"share": (i + 1) / task.steps, "step": i, "pause": pause}
            self.decoded.append(task.seed)
            yield {"share": 1, "pictures": task.seed}
        finally:
            self.closed.append(task.seed)

    def submit(self, owner="", seed=0, steps=2, prompt=""):
        return self.jobs.submit(TextToImage(steps=steps, seed=seed, prompt=prompt), owner)

    def until(self, condition):
        """Waits for the worker; a test that hangs here has found a bug."""
        with self.jobs._changed:
            assert self.jobs._changed.wait_for(condition, 60)

    def state(self, job):
        return self.jobs.get(job.id).state


@pytest.fixture
def bench():
    return Bench()


def test_a_job_runs_unwatched_to_its_result(bench):
    job = bench.submit(steps=3)
    bench.steps.release(3)
    bench.until(lambda: bench.jobs._entries[job.id].state == DONE)
    seen = bench.jobs.get(job.id)
    assert (seen.report, seen.version, seen.ended, seen.task) == ({"share": 1, "pictures": 0}, 4, 1, None)


def test_whoever_watches_sees_the_latest_and_the_end(bench):
    job = bench.submit(steps=3)
    bench.steps.release(3)
    states = [(seen.state, seen.version) for seen in bench.jobs.watch(job.id)]
    assert states[-1] == (DONE, 4)
    assert states == sorted(states, key=lambda state: state[1])
    assert [seen.state for seen in bench.jobs.watch(job.id)] == [DONE]  # and again, after the end


def test_what_the_work_refuses_is_no_job(bench):
    with pytest.raises(ValueError, match="no"):
        bench.submit(prompt="refuse")
    assert bench.jobs.of("") == []


def test_a_cancel_is_heeded_at_the_next_step_and_skips_decoding(bench):
    job = bench.submit(steps=9)
    bench.steps.release()
    bench.until(lambda: bench.jobs._entries[job.id].version == 1)
    assert bench.jobs.cancel(job.id)
    assert bench.state(job) == CANCELLED
    assert not bench.jobs.cancel(job.id)
    bench.steps.release()
    bench.until(lambda: bench.jobs._running is None)
    assert (bench.taken[0], bench.decoded, bench.closed) == (2, [], [0])
    assert bench.jobs.get(job.id).version == 1


def test_a_cancel_during_the_last_step_skips_decoding(bench):
    job = bench.submit(steps=1)
    bench.until(lambda: bench.jobs._running is not None)
    bench.jobs.cancel(job.id)
    bench.steps.release()
    bench.until(lambda: bench.jobs._running is None)
    assert bench.decoded == []


def test_a_queued_job_that_is_cancelled_never_begins(bench):
    first, second = bench.submit(seed=1), bench.submit(seed=2)
    assert bench.jobs.cancel(second.id)
    bench.steps.release(9)
    bench.until(lambda: bench.jobs._entries[first.id].state == DONE and bench.jobs._running is None)
    assert bench.begun == [("", 1)]


def test_a_failure_is_kept_and_the_next_job_runs(bench):
    first, second = bench.submit(prompt="break"), bench.submit(seed=2)
    bench.steps.release(9)
    bench.until(lambda: bench.jobs._entries[second.id].state == DONE)
    assert (bench.state(first), type(bench.jobs.get(first.id).error)) == (FAILED, ZeroDivisionError)


def test_a_failure_keeps_its_words_and_no_frames():
    class Large:
        pass

    seen = []

    def work(task, owner):
        large = Large()
        seen.append(weakref.ref(large))
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            raise ValueError("in words") from error
        yield {}

    jobs = Jobs(work=lambda task, owner: work(task, owner))
    *_, last = jobs.watch(jobs.submit(TextToImage()).id)
    assert (last.state, str(last.error)) == (FAILED, "in words")
    with jobs._changed:
        assert jobs._changed.wait_for(lambda: jobs._running is None, 60)
    gc.collect()
    assert seen[0]() is None


def test_a_job_that_was_foretold_is_not_paced(bench):
    told = Bench(foretold=lambda task: 7.0 if task.steps == 2 else None)
    first, second = told.submit(steps=2), told.submit(steps=2)
    told.until(lambda: told.jobs._running is not None)
    assert 0 < told.jobs.get(first.id).seconds <= 7
    assert 7 < told.jobs.get(second.id).seconds <= 14
    third = told.submit(steps=3)
    assert told.jobs.get(third.id).seconds is None
    told.steps.release(9)


def test_people_take_turns(bench):
    for seed in (1, 2, 3):
        bench.submit("ann", seed)
    for seed in (4, 5):
        bench.submit("ben", seed)
    bench.submit("eve", 6)
    bench.until(lambda: bench.begun)
    places = {job.number: job.position for who in ("ann", "ben", "eve") for job in bench.jobs.of(who)}
    assert places == {1: 0, 4: 1, 6: 2, 2: 3, 5: 4, 3: 5}
    bench.steps.release(99)
    bench.until(lambda: len(bench.closed) == 6)
    assert bench.begun == [("ann", 1), ("ben", 4), ("eve", 6), ("ann", 2), ("ben", 5), ("ann", 3)]


def test_a_job_passes_its_owners_others_and_nobody_elses(bench):
    ann = [bench.submit("ann", seed) for seed in (1, 2, 3)]
    ben = bench.submit("ben", 4)
    bench.until(lambda: bench.begun)
    assert bench.jobs.sooner(ann[2].id)
    assert not bench.jobs.sooner(ann[2].id)  # it is the first of its line now
    assert not bench.jobs.sooner(ann[0].id)  # it runs
    assert not bench.jobs.sooner("unknown")
    assert bench.jobs.get(ben.id).position == 1
    bench.steps.release(99)
    bench.until(lambda: len(bench.closed) == 4)
    assert bench.begun == [("ann", 1), ("ben", 4), ("ann", 3), ("ann", 2)]


def test_work_of_many_pictures_lets_others_pass_between_two(bench):
    ann, own = bench.submit("ann", 1, steps=3, prompt="long"), bench.submit("ann", 2, steps=1)
    bench.until(lambda: bench.begun)
    ben = bench.submit("ben", 3, steps=1)
    bench.steps.release()
    bench.until(lambda: bench.jobs._running is not None and bench.jobs._running.id == ben.id)
    seen = bench.jobs.get(ann.id)
    assert (seen.state, seen.position, seen.report["step"]) == (QUEUED, 1, 0)
    assert bench.jobs.get(own.id).position == 2
    bench.steps.release(99)
    bench.until(lambda: len(bench.closed) == 3)
    assert bench.closed == [3, 1, 2]  # ben's; then ann's two, which wait for each other
    assert bench.begun == [("ann", 1), ("ben", 3), ("ann", 2)]


def test_work_that_let_others_pass_can_be_cancelled_while_it_waits(bench):
    long = bench.submit("ann", 1, steps=3, prompt="long")
    bench.until(lambda: bench.begun)
    bench.submit("ben", 2, steps=1)
    bench.steps.release()
    bench.until(lambda: bench.jobs._running is not None and bench.jobs._running.id != long.id)
    assert bench.jobs.cancel(long.id)
    assert (bench.state(long), bench.closed) == (CANCELLED, [1])
    bench.steps.release(9)
    bench.until(lambda: bench.jobs._running is None and not bench.jobs._waiting)
    assert bench.taken[1] == 1


def test_ones_own_jobs_are_listed_alone(bench):
    mine, theirs = bench.submit("me"), bench.submit("them")
    assert [job.id for job in bench.jobs.of("me")] == [mine.id]
    assert [job.id for job in bench.jobs.of("them")] == [theirs.id]
    assert bench.jobs.of("") == []


def test_the_forecast_follows_the_pace(bench, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: clock[0])
    first = bench.submit(steps=4)
    second = bench.submit(steps=8)
    assert bench.jobs.get(second.id).seconds is None
    bench.until(lambda: bench.jobs._running is not None)
    clock[0] = 1.0
    bench.steps.release()
    bench.until(lambda: bench.jobs._entries[first.id].version == 1)
    assert bench.jobs.get(first.id).seconds == pytest.approx(3)
    assert bench.jobs.get(second.id).seconds == pytest.approx(3 + 8)
    clock[0] = 4.0
    bench.steps.release(3)
    bench.until(lambda: bench.jobs._running is not None and bench.jobs._running.id == second.id)
    assert bench.jobs.get(second.id).seconds == pytest.approx(8)
    assert bench.jobs.get(first.id).seconds is None


def test_too_many_are_refused_and_no_one_fills_the_line_alone():
    bench = Bench(most=4)
    bench.submit("me")
    bench.until(lambda: bench.begun)
    bench.submit("me"), bench.submit("me")
    with pytest.raises(JobError, match="your pictures"):
        bench.submit("me")
    bench.submit("them"), bench.submit("them")
    with pytest.raises(JobError, match="4 pictures wait already"):
        bench.submit("eve")


def test_what_is_long_over_is_forgotten(bench, monkeypatch):
    old = bench.submit(seed=1)
    bench.steps.release(2)
    bench.until(lambda: bench.jobs._entries[old.id].state == DONE)
    bench.submit(seed=2)
    assert bench.jobs.get(old.id).state == DONE
    monkeypatch.setattr(room, "REMEMBERED_SECONDS", -1)
    bench.submit(seed=3)
    with pytest.raises(JobError, match="in the history"):
        bench.jobs.get(old.id)
    assert not bench.jobs.cancel(old.id)


def test_no_more_than_so_many_are_remembered(bench, monkeypatch):
    monkeypatch.setattr(room, "MOST_REMEMBERED", 3)
    for seed in range(6):
        bench.jobs.cancel(bench.submit(seed=seed, steps=1).id)
    bench.submit(seed=9)
    assert len([job for job in bench.jobs.of("") if job.state in OVER]) == 3


def test_the_stamp_changes_with_what_the_owner_can_see(bench):
    stamps = [bench.jobs.stamp("me")]
    job = bench.submit("me")
    bench.until(lambda: bench.begun)
    stamps.append(bench.jobs.stamp("me"))
    theirs = bench.jobs.stamp("them")
    bench.steps.release()
    bench.until(lambda: bench.jobs._entries[job.id].version == 1)
    stamps.append(bench.jobs.stamp("me"))
    assert bench.jobs.stamp("them") == theirs
    bench.jobs.cancel(job.id)
    stamps.append(bench.jobs.stamp("me"))
    assert len(set(stamps)) == len(stamps)


@settings(max_examples=25, stateful_step_count=25)
class Lives(RuleBasedStateMachine):
    """Any order of presses, steps, failures and cancels by three people."""

    def __init__(self):
        super().__init__()
        self.bench, self.known, self.lives, self.frozen = Bench(most=12), {}, {}, {}

    @rule(owner=st.sampled_from("abc"), steps=st.integers(1, 3), how=st.sampled_from(["", "break", "long"]))
    def press(self, owner, steps, how):
        seed = len(self.known)
        try:
            job = self.bench.submit(owner, seed, steps, how if how == "long" or seed % 3 == 0 else "")
        except JobError:
            return
        self.known[job.id] = job
        self.lives[job.id] = [QUEUED]
        self.settle()

    @rule()
    def step(self):
        bench, entry = self.bench, self.bench.jobs._running
        if entry is None:
            return
        task, wanted = self.known[entry.id].task, entry.state == RUNNING
        others = bench.jobs._waiting.keys() - {entry.owner}
        taken = bench.taken[task.seed] + 1  # counted before the worker can
        bench.steps.release()
        last = not wanted or task.prompt == "break" or taken == task.steps
        if last or (task.prompt == "long" and others):  # it ends, or lets the others pass
            bench.until(lambda: bench.jobs._running is not entry)
        else:
            bench.until(lambda: entry.version == taken)
        self.settle()

    def settle(self):
        """Waits until the worker has taken what it can."""
        self.bench.until(lambda: self.bench.jobs._running is not None or not self.bench.jobs._waiting)

    @rule(data=st.data())
    def cancel(self, data):
        if self.known:
            id = list(self.known)[data.draw(st.integers(0, len(self.known) - 1))]
            before = self.bench.jobs.get(id)
            assert self.bench.jobs.cancel(id) == (before.state not in OVER)

    @rule(data=st.data())
    def move(self, data):
        if self.known:
            id = list(self.known)[data.draw(st.integers(0, len(self.known) - 1))]
            jobs, before = self.bench.jobs, self.bench.jobs.get(id)
            others = {
                one: jobs.get(one).position for one in self.known if jobs.get(one).owner != before.owner
            }
            moved = jobs.sooner(id)
            assert moved == (jobs.get(id).position < before.position)
            assert {one: jobs.get(one).position for one in others} == others

    @invariant()
    def every_life_follows_the_arrows(self):
        jobs = [self.bench.jobs.get(id) for id in self.known]
        for job in jobs:
            life = self.lives[job.id]
            if job.state != life[-1]:
                passed = [life[-1], job.state]
                if tuple(passed) not in ARROWS:  # it began and ended between two looks
                    passed = [life[-1], RUNNING, job.state]
                assert all(arrow in ARROWS for arrow in pairwise(passed)), (life, job.state)
                life += passed[1:]
            if job.state in OVER:
                assert self.frozen.setdefault(job.id, job) == job
            if job.state == DONE:
                assert self.bench.taken[self.known[job.id].task.seed] == self.known[job.id].task.steps
        assert sum(job.state == RUNNING for job in jobs) <= 1
        waiting = sorted(job.position for job in jobs if job.state == QUEUED)
        assert waiting == list(range(1, len(waiting) + 1))

    def teardown(self):
        for id in self.known:
            self.bench.jobs.cancel(id)
        self.bench.steps.release(1000)
        self.bench.until(lambda: self.bench.jobs._running is None and not self.bench.jobs._waiting)
        assert len(self.bench.begun) == len(self.bench.closed)


TestLives = Lives.TestCase
