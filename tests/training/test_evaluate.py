"""One command makes all scores: parts can be run apart, and the table says what the JSON says."""

import json
from types import SimpleNamespace

import pytest

from modules.training import evaluate
from modules.training.scores.plots import lines, samplers_plot
from modules.training.scores.prompts import SETS
from modules.training.scores.table import GOALS, LINES, table


@pytest.fixture
def fake(monkeypatch):
    """Two parts that measure nothing, and count how often they were asked."""
    asked = []

    def part(name):
        return lambda job: asked.append(name) or {"thing": {"right": 0.5, "pictures": len(asked)}}

    monkeypatch.setattr(evaluate, "PARTS", {name: part(name) for name in ("things", "synonyms")})
    monkeypatch.setattr(
        evaluate, "manifest", lambda: {"training": {"on true pictures": {"thing": {"right": 0.95}}}}
    )
    return asked


def run(folder, names, hash="abc", quick=False):
    job = evaluate.Job(SimpleNamespace(hash=hash), 1.0, folder, None)
    return evaluate.evaluate(job, names, quick)


def test_parts_run_apart_are_kept_together(tmp_path, fake):
    run(tmp_path, ["things"])
    scores = run(tmp_path, ["synonyms"])
    assert set(scores["parts"]) == {"things", "synonyms"}
    assert json.loads((tmp_path / "scores.json").read_text("utf-8")) == scores
    assert fake == ["things", "synonyms"]


@pytest.mark.parametrize("other", [{"hash": "def"}, {"quick": True}])
def test_scores_of_other_weights_are_not_kept(other, tmp_path, fake):
    run(tmp_path, ["things"])
    assert set(run(tmp_path, ["synonyms"], **other)["parts"]) == {"synonyms"}


def test_scores_of_a_form_that_is_gone_are_not_kept(tmp_path, fake):
    (tmp_path / "scores.json").write_text('{"model": "abc", "quick": false, "colour": {"right": 1}}')
    assert set(run(tmp_path, ["things"])["parts"]) == {"things"}


def test_the_table_says_what_the_scores_say(tmp_path, fake):
    run(tmp_path, ["things"])
    told = (tmp_path / "scores.md").read_text("utf-8")
    assert "| a common thing by its name | judge network | 50% | 1 | 95% | 75% |" in told
    assert "puppy" not in told  # synonyms were not measured


def test_the_table_has_a_line_for_every_part():
    attributes = {part for part, *_ in GOALS}
    assert attributes <= set(SETS)
    assert attributes | set(LINES) >= set(evaluate.PARTS)


def test_lines_say_what_was_measured():
    row = {"class": {"right": 0.1, "pictures": 8}, "ground": {"right": 0.2, "pictures": 8}}
    scores = {
        "model": "abc", "quick": True, "judges, on true pictures": {},
        "settings": {"guidance_scale": 4.0, "steps": 20, "sampler": "DPM++ 2M", "schedule": "karras"},
        "parts": {
            "guidance": {"scales": [
                {"scale": 1, "thing": {"right": 0.25, "pictures": 24}, "diversity": 1},
                {"scale": 15, "thing": {"right": 0.75, "pictures": 24}, "diversity": 0.31},
            ]},
            "negative prompt": {"pictures": 16, "are red": 0.6, 'with "red"': 0.1},
            "two weights": {
                "class turned": [{"class scale": 0.0, **row}],
                "words turned": [{"guidance scale": 6.0, **row}],
            },
            "samplers": {"walks": [
                {"sampler": "DDPM", "calls": 1000, "right": 0.9, "beyond true pictures": 0.12, "pictures": 8}
            ]},
            "autoencoder": {"scenes": {"dB": 31.25, "pictures": 24}, "seconds": 3},
        },
    }  # fmt: skip
    told = table(scores)
    assert "25% to 75% (best at 15), diversity 1 to 0.31; 24 pictures a scale" in told
    assert "from 60% to 10%; 16 pictures" in told
    assert "class right 10% at 0; guidance scale turned up, the other kept: ground right 20% at 6" in told
    assert "DDPM in 1000 calls" in told
    assert "31.2 dB on 24 scenes." in told


def test_plots_are_drawn_of_what_was_measured(tmp_path):
    walk = {"pictures": 8, "right": 0.5, "beyond true pictures": 1.0}
    samplers_plot(
        {
            "classes": ["heart"],
            "fine picture": "DDIM, 250 calls",
            "true pictures": [{"pictures": 8, "right": 0.9}],
            "walks": [
                {"sampler": "DDIM", "calls": 4, "off the fine picture": 0.2, **walk},
                {"sampler": "DDPM", "calls": 1000, **walk},
            ],
        },
        tmp_path / "samplers.png",
    )
    lines({"right": [(1, 0.2), (15, 0.9)]}, "scale", "Guidance", tmp_path / "guidance.png")
    assert {path.name for path in tmp_path.iterdir()} == {"samplers.png", "guidance.png"}
