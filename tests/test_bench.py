"""The bench runs, accounts for all the time, and races pipelines that paint the same picture."""

import json

import pytest

from modules import bench


@pytest.fixture(scope="module")
def record(tiny_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    arguments = "--steps 3 --repeats 1 --batches 1 2 --threads 1 --dtypes float32 bfloat16".split()
    bench.main(["--model", str(tiny_folder), "--out", str(out), *arguments])
    return json.loads(out.read_text())


def test_every_combination_is_measured(record):
    found = [(row["dtype"], row["threads"], row["batch"]) for row in record["rows"]]
    assert found == [("float32", 1, 1), ("float32", 1, 2), ("bfloat16", 1, 1), ("bfloat16", 1, 2)]
    assert record["versions"]["torch"]
    assert record["processor"]


def test_the_parts_add_up_to_the_whole(record):
    for row in record["rows"]:
        seconds = dict(row["seconds"])
        total = seconds.pop("total")
        assert sum(seconds.values()) == pytest.approx(total)
        assert row["ratio"] == pytest.approx(total / row["stock_seconds"])


def test_both_pipelines_paint_the_same_picture(record):
    for row in record["rows"]:
        assert row["largest_pixel_difference"] <= (1 if row["dtype"] == "float32" else 60)
