"""History: found again by any word, private where it is shared, whole after a kill between any two writes."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules import metadata
from modules.engine import history as room
from modules.engine.history import INDEX, History, HistoryError, Query
from modules.tasks import ClassConditional, Task, TextToImage

ROOT = Path(__file__).resolve().parents[2]


def info_of(task: Task) -> dict:
    seeds = [task.seed + i for i in range(task.batch_size)]
    return {
        "kind": task.kind, **task.scalars(), "seeds": seeds, "model_hash": "0123456789", "snr": [0.5],
        "timesteps": [999.0], "seconds": 0.5, "versions": {"epsilon_studio": "0"},
    }  # fmt: skip


def picture(shade: int = 100, size: tuple[int, int] = (32, 24)) -> Image.Image:
    return Image.new("RGB", size, (shade, 50, 50))


def add(history: History, prompt: str = "a cat", owner: str = "", **fields) -> str:
    return history.add(picture(), info_of(TextToImage(prompt=prompt, seed=7, **fields)), 0, owner).name


def names(history: History, owner: str = "", **query) -> list[str]:
    return [entry.name for entry in history.search(Query(**query), owner, count=1000)]


def files(history: History) -> set[str]:
    return {path.name for path in history.folder.glob("*.png")}


@pytest.fixture
def history(tmp_path) -> History:
    return History(tmp_path / "outputs")


def test_nothing_is_made_before_there_is_a_picture(history):
    history.start()
    history._healer.join()
    assert names(history) == []
    assert history.count(Query()) == 0
    assert history.choices() == {"kind": [], "model": [], "sampler": []}
    with pytest.raises(HistoryError, match="not in the history"):
        history.read("x.png")
    history.sweep(1)
    assert not history.folder.exists()


def test_a_picture_is_kept_with_its_recipe_and_found_with_its_thumbnail(history):
    info = info_of(TextToImage(prompt="a cat", seed=2**63 - 2, batch_size=2))
    path = history.add(picture(), info, 1)
    with Image.open(path) as saved:
        assert metadata.read(saved).task.seed == 2**63 - 1
    [entry] = history.search(Query())
    assert (entry.name, entry.seed, entry.title) == (path.name, 2**63 - 1, "a cat")
    assert entry.thumbnail.startswith(b"\xff\xd8")
    assert history.read(path.name) == (path, info, 1)


def test_search_by_words_and_by_what_made_it(history):
    apple = add(history, "A Red Apple on grass", sampler="Euler", schedule="default")
    cat = add(history, "ein CAFÉ mit Katze", negative_prompt="blurry")
    star = history.add(picture(), info_of(ClassConditional(class_name="star", prompt="red", seed=1))).name
    assert names(history) == [star, cat, apple]
    assert names(history, words="red") == [star, apple]
    assert names(history, words="apple RED") == [apple]
    assert names(history, words="café") == [cat]
    assert names(history, words="blur") == [cat]
    assert names(history, words="star") == [star]
    assert names(history, words="%") == []
    assert names(history, sampler="Euler") == [apple]
    assert names(history, kind="class_conditional") == [star]
    assert names(history, model="other") == []
    assert history.count(Query(words="red")) == 2
    assert history.choices() == {
        "kind": ["class_conditional", "text_to_image"], "model": ["pocket"], "sampler": ["DPM++ 2M", "Euler"],
    }  # fmt: skip


def test_search_by_date(history, monkeypatch):
    made = {}
    for at in (100.0, 200.0, 300.0):
        monkeypatch.setattr(room.time, "time", lambda at=at: at)
        made[at] = add(history)
    assert names(history, since=200.0) == [made[300.0], made[200.0]]
    assert names(history, until=200.0) == [made[100.0]]
    assert names(history, since=150.0, until=250.0) == [made[200.0]]


def test_pages_follow_each_other_whatever_comes_in_between(history):
    made = [add(history) for _ in range(7)][::-1]
    first = history.search(Query(), count=3)
    add(history, "newer")
    history.delete([made[1]])
    second = history.search(Query(), after=(first[-1].at, first[-1].name), count=3)
    third = history.search(Query(), after=(second[-1].at, second[-1].name), count=3)
    assert [entry.name for entry in [*first, *second, *third]] == made


def test_where_it_is_shared_everyone_sees_their_own_alone(tmp_path):
    shared = History(tmp_path, shared=True)
    mine, theirs, nobodys = (add(shared, owner=owner) for owner in ("me", "them", ""))
    assert names(shared, "me") == [mine]
    assert names(shared, "") == []
    assert (shared.count(Query(), "me"), shared.count(Query(), "")) == (1, 0)
    assert shared.choices("")["model"] == []
    for name in (theirs, nobodys):
        with pytest.raises(HistoryError):
            shared.read(name, "me")
    assert shared.delete([mine, theirs, nobodys], "me") == [mine]
    assert files(shared) == {theirs, nobodys}
    with pytest.raises(HistoryError, match="None of those"):
        shared.export([theirs], "me")
    assert len(names(History(tmp_path))) == 2  # whoever owns the machine sees all


@pytest.mark.parametrize("name", ["../secret.png", "secret.png", f"../outputs/{INDEX}", INDEX, "", "%"])
def test_only_what_the_index_names_is_ever_touched(history, name):
    kept = add(history)
    secret = history.folder.parent / "secret.png"
    secret.write_bytes(b"private")
    (history.folder / "secret.png").write_bytes(b"private")
    with pytest.raises(HistoryError):
        history.read(name)
    assert history.delete([name]) == []
    with pytest.raises(HistoryError):
        history.export([name])
    assert secret.exists()
    assert files(history) == {kept, "secret.png"}


def test_delete_takes_file_and_row(history):
    first, second = add(history), add(history)
    assert history.delete([first]) == [first]
    assert (names(history), files(history)) == ([second], {second})


def test_export_packs_whole_files(history):
    made = [add(history) for _ in range(3)]
    packed = history.export([*made[:2], "nothing.png"])
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == made[:2]
        assert archive.read(made[0]) == (history.folder / made[0]).read_bytes()


def test_sweeping_takes_rows_along(history):
    old = add(history)
    (history.folder / "holiday.png").write_bytes(b"not ours to delete")
    history.sweep(-1)
    assert files(history) == {"holiday.png"}
    assert history.count(Query()) == 0
    assert old not in names(history)


def test_an_index_that_is_gone_damaged_or_of_another_version_is_made_anew(history):
    info = info_of(ClassConditional(class_name="star", prompt="red", seed=1, batch_size=2, sampler="Euler"))
    made = [history.add(picture(), info, i).name for i in (0, 1)]
    before = {entry.name: entry[2:] for entry in history.search(Query())}
    for spoil in (
        lambda: (history.folder / INDEX).unlink(),
        lambda: (history.folder / INDEX).write_bytes(b"no index at all" * 1000),
        lambda: sqlite3.connect(history.folder / INDEX).execute("PRAGMA user_version = 99").close(),
    ):
        spoil()
        again = History(history.folder)
        again.start()
        again._healer.join()
        assert {
            entry.name: entry[2:] for entry in again.search(Query(words="star", sampler="Euler"))
        } == before
        assert again.read(made[1])[1:] == (info, 1)


def test_files_that_come_and_go_behind_its_back(history):
    kept, gone = add(history), add(history)
    there = History(history.folder.parent / "elsewhere")
    brought = add(there, "brought here")
    (there.folder / brought).rename(history.folder / brought)
    (history.folder / gone).unlink()
    Image.new("RGB", (4, 4)).save(history.folder / "holiday.png")
    (history.folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n....")
    foreign = PngInfo()
    foreign.add_itxt(metadata.files.RECIPE_CHUNK, '{"kind": "text_to_image", "seeds": 3}')
    Image.new("RGB", (4, 4)).save(history.folder / "foreign.png", pnginfo=foreign)
    history.heal()
    assert set(names(history)) == {kept, brought}
    assert names(history, words="brought") == [brought]


def test_a_file_that_vanished_is_dropped_where_it_is_looked_for(history):
    kept, gone = add(history), add(history)
    (history.folder / INDEX).unlink()
    history.heal()
    (history.folder / gone).unlink()
    assert names(history) == [kept]
    assert history.count(Query()) == 1


class Killed(BaseException):
    """Nothing after it happens, as after a kill."""


def kill_at(monkeypatch, target, name, call):
    """Raise Killed instead of the `call`-th call of target.name, counted from 0."""
    real, calls = getattr(target, name), []

    def perhaps(*args, **how):
        calls.append(args)
        if len(calls) == call + 1:
            raise Killed
        return real(*args, **how)

    monkeypatch.setattr(target, name, perhaps)


@pytest.mark.parametrize(
    ("target", "name", "call", "survives"),
    [
        (History, "_write_row", 0, False),
        (metadata, "write", 0, False),
        (metadata.files.os, "fsync", 0, False),
        (metadata.files.os, "replace", 0, False),
        (metadata.files, "_sync_folder", 0, True),
        (History, "_write_row", 1, True),
    ],
)
def test_killed_between_any_two_writes_of_a_picture(history, monkeypatch, target, name, call, survives):
    before = add(history)
    with monkeypatch.context() as patched:
        kill_at(patched, target, name, call)
        with pytest.raises(Killed):
            add(history, "the killed one", owner="me")
    assert names(history, words="killed") == []
    again = History(history.folder)
    again.heal()
    assert (set(names(again)), len(names(again))) == (files(again), 1 + survives)
    assert before in names(again)
    if survives:  # whose it was is known even so
        assert len(names(History(history.folder, shared=True), "me")) == 1


def test_killed_between_the_two_writes_of_a_deletion(history, monkeypatch):
    first, second = add(history), add(history)
    with monkeypatch.context() as patched:
        kill_at(patched, History, "_forget", 0)
        with pytest.raises(Killed):
            history.delete([first])
    history.heal()
    assert names(history) == [second]


def test_an_abandoned_unfinished_file_is_cleared_and_a_fresh_one_left(history):
    add(history)
    old, young = (history.folder / f".{age}.png.0123.tmp" for age in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half a pic")
    long_ago = time.time() - 2 * room.ABANDONED
    os.utime(old, (long_ago, long_ago))
    history.heal()
    assert (old.exists(), young.exists()) == (False, True)


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/engine")
import test_history as t
history, n = t.History(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    name = t.add(history, f"picture {n}")
    n += 1
    if n % 3 == 0:
        history.delete([name])
"""


def test_killed_at_any_moment_no_file_is_broken_and_the_index_heals(tmp_path):
    source = random.Random(7)
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline() == "ready\n"
        while not files(History(tmp_path)):  # only the first writer is waited for: a busy machine is slow
            time.sleep(0.01)
        time.sleep(source.uniform(0.02, 0.25))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        history = History(tmp_path)
        history.heal()
        assert set(names(history)) == files(history)
    assert files(history)
    for name in files(history):
        with Image.open(tmp_path / name) as saved:
            assert np.array_equal(np.asarray(saved), np.asarray(picture()))
            assert metadata.read(saved).task.prompt.startswith("picture ")


def test_trouble_with_the_index_costs_no_picture(history, monkeypatch, caplog):
    first = add(history)

    def locked(*_, **__):
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(room.sqlite3, "connect", locked)
        second = add(history)
    assert "not in the history until the next start" in caplog.text
    assert files(history) == {first, second}
    history.heal()
    assert set(names(history)) == {first, second}
