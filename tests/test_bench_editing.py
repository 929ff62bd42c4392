"""The bench of editing measures what a model can be given beside words, and nothing that it cannot."""

import shutil

import pytest

from modules.bench import editing
from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.tasks import Controlled, Inpaint, TextToImage
from tests.tiny import write_manifest, write_tiny_controlnet


@pytest.fixture(scope="module")
def model(tiny_folder, tmp_path_factory):
    folder = shutil.copytree(tiny_folder, tmp_path_factory.mktemp("edited") / "tiny")
    for seed, kind in enumerate(("pose", "depth")):
        write_manifest(write_tiny_controlnet(folder, kind, seed))
    return load(card_for_folder(folder), "cpu")


def test_every_kind_asks_for_the_same_steps_and_size(model, tiny_folder):
    asked = editing.tasks(model, 3)
    assert [type(task) for task in asked.values()] == [TextToImage, *[Controlled] * 3, Inpaint]
    assert {(task.steps, task.width, task.height) for task in asked.values()} == {(3, 256, 256)}
    assert asked["two controls at once"].control_type_2 == "depth"
    bare = editing.tasks(load(card_for_folder(tiny_folder), "cpu"), 3)
    assert list(bare) == [editing.PLAIN, "inpainting"]


def test_costs_are_told_beside_a_plain_picture(model, monkeypatch, capsys):
    taken = iter([2.0, 3.0, 3.0, 4.0, 2.5] * 3)
    monkeypatch.setattr(editing, "_seconds", lambda *_: next(taken))
    record = editing.bench(model, steps=1, repeats=2)
    assert record["ratio"][editing.PLAIN] == 1
    assert record["ratio"]["two controls at once"] == 2
    assert record["seconds"]["inpainting"] == 2.5
    assert len(record["runs"]) == 2
    assert "control by pose" in capsys.readouterr().out


def test_what_is_measured_can_be_painted(model):
    for task in editing.tasks(model, 1).values():
        assert editing._seconds(model, task) > 0
