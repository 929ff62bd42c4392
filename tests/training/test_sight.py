"""What sees depth: its targets are the truth, it is scored on what nobody saw, and a run resumes."""

import numpy as np
import pytest
import torch
from PIL import Image

from modules.conditions import sight as network
from modules.training import seeing, sight
from modules.training.toyland.scenes import is_held_out, scene


def test_nearness_is_largest_where_things_are_near():
    depth = scene(2).depth
    near = sight.nearness(depth)
    assert near.shape == (32, 32)
    assert near.min() == 0
    assert near.max() == 1
    assert sight.spearman(near, -sight.nearness(1 / depth)) == pytest.approx(1, abs=0.01)


def test_an_untrained_network_answers_in_the_promised_shape():
    pictures = [Image.new("RGB", (300, 200), "red"), Image.new("L", (64, 64))]
    assert network.seen(network.Sight().eval(), pictures).shape == (2, 32, 32)


@pytest.mark.parametrize("kind", ["figure", "objects"])
def test_it_is_scored_on_what_nobody_saw(kind):
    for one in sight.held_out_scenes(2, kind):
        assert one.facts["seed"] >= sight.HELD_OUT
        assert one.facts["kind"] == kind
        assert one.keypoints is None or is_held_out(one.facts)


def test_a_scene_holds_the_same_at_any_size():
    large, small = scene(8).facts, scene(8, size=sight.GLANCE).facts
    assert all(large[name] == small[name] for name in ("pose", "background", "kind", "person"))


def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch):
    drawn = [scene(seed, size=128) for seed in range(3)]
    np.save(tmp_path / "rgb.npy", np.stack([one.image for one in drawn]))
    np.save(tmp_path / "depth.npy", np.stack([one.depth for one in drawn]))
    shipped = {}
    monkeypatch.setattr(sight, "score", lambda average: {})
    monkeypatch.setattr(
        sight,
        "ship",
        lambda average, path, name, facts: shipped.update({facts["steps"]: average.state_dict()}),
    )
    monkeypatch.setattr(seeing, "learning_rate", lambda step, *others: 1e-3)
    sight.train(tmp_path, tmp_path / "whole", steps=4, batch_size=2)
    whole = shipped.pop(4)
    sight.train(tmp_path, tmp_path / "halves", steps=2, batch_size=2)
    sight.train(tmp_path, tmp_path / "halves", steps=4, batch_size=2)
    assert all(torch.equal(value, shipped[4][name]) for name, value in whole.items())
