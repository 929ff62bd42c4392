"""What is measured outlives the process, damage and other writers; a file is never half there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modules.engine.measurements import KEPT, Measurements, Observation, Place, read

PLACE = Place(model="pocket", hash="abc", device="cpu", dtype="float32", threads=2, weights=1000)
OTHER = Place(model="pocket", hash="abc", device="cuda:0", dtype="float16", threads=0)


def observation(at: float, amount: float = 0.1, seconds: float = 1.0) -> Observation:
    return Observation(at, "call", "text_to_image", amount, seconds, 5)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "outputs" / "measured.json"


def test_what_was_added_is_read_by_the_next_process(path):
    Measurements(path).add(PLACE, [observation(1), observation(2)])
    again = Measurements(path)
    assert again.at(PLACE) == [observation(1), observation(2)]
    assert again.at(OTHER) == []
    assert again.latest("pocket") == PLACE
    assert again.latest("pocket").weights == 1000


def test_only_the_newest_of_a_kind_are_kept(path):
    book = Measurements(path)
    book.add(PLACE, [observation(at) for at in range(50)])
    book.add(PLACE, [observation(3, amount=0.2)])
    kept = Measurements(path).at(PLACE)
    assert [one.at for one in kept if one.amount == 0.1] == list(range(50 - KEPT, 50))
    assert observation(3, amount=0.2) in kept


def test_the_latest_place_is_that_of_the_device_and_precision_asked_for(path):
    book = Measurements(path)
    book.add(PLACE, [observation(1)])
    book.add(OTHER, [observation(2)])
    assert book.latest("pocket") == OTHER
    assert book.latest("pocket", "cpu") == book.latest("pocket", "cpu", "float32") == PLACE
    assert book.latest("pocket", "cuda") == book.latest("pocket", "cuda:1", "auto") == OTHER
    assert book.latest("pocket", "cpu", "bfloat16") is book.latest("sdxl") is None


WHOLE = {"version": 1, "places": [
    {"model": "pocket", "hash": "abc", "device": "cpu", "dtype": "float32", "threads": 2, "weights": 0,
     "observations": [[1, "call", "text_to_image", 0.1, 1.0, 5]]}]}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "[" * 100_000,
        json.dumps(WHOLE)[:-20],
        json.dumps(WHOLE | {"version": 99}),
        json.dumps(WHOLE | {"places": {"a": 1}}),
        json.dumps(WHOLE).replace("0.1", "NaN"),
        json.dumps(WHOLE).replace("1.0", "-3"),
        json.dumps(WHOLE).replace("1.0", "1e999"),
        json.dumps(WHOLE).replace("1.0", "[]"),
        json.dumps(WHOLE).replace('"hash"', '"hush"'),
        "\x00\xff",
    ],
)
def test_a_broken_file_is_begun_anew(text, path):
    path.parent.mkdir()
    path.write_text(text, "utf-8")
    book = Measurements(path)
    assert book.at(PLACE) == []
    book.add(PLACE, [observation(1)])
    assert Measurements(path).at(PLACE) == [observation(1)]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_whole_file_is_read(path):
    path.parent.mkdir()
    path.write_text(json.dumps(WHOLE))
    assert Measurements(path).at(PLACE) == [observation(1)]


def test_a_disk_that_refuses_costs_only_the_file(tmp_path):
    (tmp_path / "file").write_text("in the way")
    book = Measurements(tmp_path / "file" / "measured.json")
    book.add(PLACE, [observation(1)])
    assert book.at(PLACE) == [observation(1)]


def test_two_writers_lose_nothing_for_long(path):
    one, other = Measurements(path), Measurements(path)
    one.add(PLACE, [observation(1)])
    other.add(OTHER, [observation(2)])
    path.unlink()  # as if the other had read before and written after
    one.add(PLACE, [observation(3)])
    other.add(OTHER, [observation(4)])
    found = read(path)
    assert found[PLACE] == [observation(1), observation(3)]
    assert found[OTHER] == [observation(2), observation(4)]


def test_two_processes_never_leave_half_a_file(path):
    code = (
        "import sys; from pathlib import Path; from tests.engine.test_measurements import *;"
        "book, place = Measurements(Path(sys.argv[1])), [PLACE, OTHER][int(sys.argv[2])];"
        "[book.add(place, [observation(at, amount=at)]) for at in range(1, 41)]"
    )
    root = Path(__file__).resolve().parent.parent.parent
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path), number], cwd=root) for number in ("0", "1")
    ]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert json.loads(path.read_text("utf-8"))["places"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(read(path)) == 2
    assert max(map(len, read(path).values())) == 40
