"""What reads depth and joints: its targets are the truth, its measures are checked, and a run resumes."""

import numpy as np
import pytest
import torch
from PIL import Image

from modules.conditions import sight as network
from modules.training import sight
from modules.training.toyland.scenes import is_held_out, scene


@pytest.fixture(scope="module")
def figure():
    return next(one for one in map(scene, range(40)) if one.keypoints is not None)


def test_joints_are_found_where_their_heat_is(figure):
    points = figure.keypoints / 256
    found = network.joints(sight.heat(points))
    inside = ((points[:, :2] > 0.05) & (points[:, :2] < 0.95)).all(1)
    for spot, true in zip(np.array(found)[inside], points[inside]):
        assert np.abs(spot - true[:2]).max() < 0.5 / network.GRID
    assert network.joints(np.zeros((18, 32, 32))) == (None,) * 18


def test_pck_counts_visible_joints_within_a_tenth_of_the_figure():
    true = np.array([[0.5, 0.2, 1], [0.5, 0.7, 1], [0.4, 0.5, 0]])  # half a picture high: a tenth is 0.05
    assert list(sight.pck([(0.54, 0.2), (0.5, 0.76), None], true)) == [True, False]
    assert list(sight.pck([None, (0.5, 0.7), None], true)) == [False, True]


def test_a_mirrored_figure_keeps_its_left_arm_on_its_left(figure):
    points = figure.keypoints / 256
    mirrored = (points * (-1, 1, 1) + (1, 0, 0))[list(sight.MIRROR)]
    right, left = 2, 5  # shoulders
    assert mirrored[left][0] == pytest.approx(1 - points[right][0])
    assert sorted(sight.MIRROR) == list(range(18))


def test_nearness_is_largest_where_things_are_near(figure):
    near = sight.nearness(figure.depth)
    assert near.shape == (32, 32)
    assert near.min() == 0
    assert near.max() == 1
    assert sight.spearman(near, -sight.nearness(1 / figure.depth)) == pytest.approx(1, abs=0.01)


def test_an_untrained_network_answers_in_the_promised_shape():
    pictures = [Image.new("RGB", (300, 200), "red"), Image.new("L", (64, 64))]
    said = network.seen(network.Sight().eval(), pictures)
    assert said.shape == (2, 19, 32, 32)
    assert 0 <= said[:, :-1].min() <= said[:, :-1].max() <= 1


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
    drawn = [scene(seed) for seed in range(3)]
    np.save(tmp_path / "rgb.npy", np.stack([one.image for one in drawn]))
    np.save(tmp_path / "depth.npy", np.stack([one.depth for one in drawn]))
    absent = np.full((18, 3), np.nan, np.float32)
    np.save(tmp_path / "keypoints.npy", [absent if d.keypoints is None else d.keypoints for d in drawn])
    shipped = {}
    monkeypatch.setattr(sight, "score", lambda average: {})
    monkeypatch.setattr(
        sight, "export", lambda average, folder, facts: shipped.update({facts["steps"]: average.state_dict()})
    )
    monkeypatch.setattr(sight, "learning_rate", lambda step, *others: 1e-3)
    sight.train(tmp_path, tmp_path / "whole", steps=4, batch_size=2)
    whole = shipped.pop(4)
    sight.train(tmp_path, tmp_path / "halves", steps=2, batch_size=2)
    sight.train(tmp_path, tmp_path / "halves", steps=4, batch_size=2)
    assert all(torch.equal(value, shipped[4][name]) for name, value in whole.items())
