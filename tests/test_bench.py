"""The bench runs, accounts for all the time, and races pipelines that paint the same picture."""

import json
import sys

import pytest
import torch

from modules import bench
from modules.bench import runtimes


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


TINY = {
    "sample_size": 8, "cross_attention_dim": 32, "attention_head_dim": 2, "block_out_channels": (16, 32),
    "layers_per_block": 1, "norm_num_groups": 8, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
SMALL = runtimes.AUTOENCODER | {
    "block_out_channels": (8, 8, 8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


@pytest.mark.parametrize("there", [False, True])
def test_runtimes_race_on_the_same_picture(there, monkeypatch):
    if there:
        pytest.importorskip("openvino")
    else:
        monkeypatch.setitem(sys.modules, "openvino", None)
    found = runtimes.race(bench.stock_pipeline, 64, 2, TINY, SMALL)
    names = ["ours", "stock", *["openvino"] * there]
    assert list(found["ratios"]) == names
    assert found["ratios"]["ours"] == 1
    assert found["parameters"] > 100_000
    for name in names[1:]:
        assert found["ratios"][name] == pytest.approx(
            found["seconds"][name] / found["seconds"]["ours"], rel=0.05, abs=0.05
        )
        assert found["largest_pixel_difference"][name] <= 1
    assert (found["told"] == runtimes.MISSING) is not there
    assert len(runtimes.line(found).splitlines()) == len(names) + 2


def test_the_race_is_of_stable_diffusions_size():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**runtimes.UNET)
    assert runtimes.numbers(unet) == 859_520_964
