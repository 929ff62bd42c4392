"""The bench runs, accounts for all the time, and races pipelines that paint the same picture."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import torch

from modules import bench
from modules.bench import panel, queue, runtimes, start
from modules.bench.stock import stock_pipeline
from modules.diffusion.schedule import SAMPLERS


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
    found = runtimes.race(stock_pipeline, 64, 2, TINY, SMALL)
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


def test_every_sampler_and_spacing_is_redrawn(tiny_folder):
    found = panel.bench(str(tiny_folder), [2])
    assert found["redraws"] == sum(len(sampler.spacings) for sampler in SAMPLERS.values())
    assert 0 < found["median_seconds"] <= found["p99_seconds"] <= found["slowest_seconds"]
    assert found["slowest"].partition(",")[0] in SAMPLERS


class Studio(BaseHTTPRequestHandler):
    """As much of a studio as the bench talks to: it paints what it is asked for, but for secrets."""

    def do_POST(self):
        (prompt,) = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["data"]
        self.say(json.dumps({"event_id": prompt}))

    def do_GET(self):
        prompt = self.path.rpartition("/")[2]
        last = "error\ndata: null" if prompt == "secret" else f'complete\ndata: [["{prompt}.png"]]'
        self.say(f"event: generating\ndata: [null]\n\nevent: heartbeat\ndata: null\n\nevent: {last}\n\n")

    def say(self, text):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def test_the_studio_is_asked_over_http():
    server = HTTPServer(("127.0.0.1", 0), Studio)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        assert start.answers(address)
        assert start.ask(address, "text_to_image", ["apple"]) == [["apple.png"]]
        with pytest.raises(RuntimeError, match="/text_to_image refused"):
            start.ask(address, "text_to_image", ["secret"])
    finally:
        server.shutdown()
        server.server_close()
    assert not start.answers(address)


def test_the_queue_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(queue, "JOBS", 6)
    bench.main(["--parts", "queue", "--repeats", "1", "--out", str(tmp_path / "q.json")])
    assert json.loads((tmp_path / "q.json").read_text())["milliseconds_a_job"] > 0
    assert "A job costs" in capsys.readouterr().out
