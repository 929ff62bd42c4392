"""The bench of the queue runs and accounts for what it names."""

import json

from modules import bench_queue


def test_the_queue_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_queue, "JOBS", 6)
    bench_queue.main(["--parts", "queue", "--repeats", "1", "--out", str(tmp_path / "q.json")])
    record = json.loads((tmp_path / "q.json").read_text())
    assert record["queue"]["milliseconds_a_job"] > 0
    assert "milliseconds a job" in capsys.readouterr().out
