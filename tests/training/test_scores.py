"""What Pocket is asked for its scores was never trained on, and what the answers are made of is true."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.tasks import ClassConditional, TextToImage
from modules.training.scores import asking, judge, neighbours, prompts, samplers, truth
from modules.training.scores.looking import Spot
from modules.training.scores.painting import paint, painted
from modules.training.toyland import captions, scene_words
from modules.training.toyland.colours import GROUNDS, coat
from modules.training.toyland.compose import are_held_out, is_pair_held_out
from modules.training.toyland.emoji import CLASS_NAMES, CLASSES


def words(text):
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def test_no_caption_used_a_synonym():
    held_out = json.loads(prompts.SYNONYMS.read_text("utf-8"))
    called = set().union(*(words(name) for names in judge.names().values() for name in names))
    assert len(held_out) == 50
    assert not called & set(held_out)
    assert {"cat", "potato", "dog"} <= called  # so the check above can fail
    for module in (captions, scene_words):  # every word of a template or a scene stands in the sources
        assert not words(Path(module.__file__).read_text("utf-8")) & set(held_out)


def test_synonyms_stand_for_classes():
    assert set(json.loads(prompts.SYNONYMS.read_text("utf-8")).values()) <= set(CLASS_NAMES)


@pytest.mark.parametrize("name", prompts.SETS)
def test_requests_are_the_same_every_time_and_each_has_a_seed_of_its_own(name):
    once, again = list(prompts.SETS[name]()), list(prompts.SETS[name]())
    assert once == again
    assert len({one.task.seed for one in once}) == len(once) >= 24


@pytest.mark.parametrize("name", ["painted", "classes and words"])
def test_colours_asked_for_are_in_pairs_held_out(name):
    for one in prompts.SETS[name]():
        (like,) = one.wanted.things
        assert any(is_pair_held_out(label, one.wanted.colour) for label in like)
        assert one.wanted.colour in one.task.prompt
        assert f"{one.wanted.ground} background" in one.task.prompt


def test_two_things_asked_for_are_a_pair_held_out():
    for one in prompts.relations():
        first, second = one.wanted.things
        assert any(are_held_out(a, b) for a in first for b in second)
        assert not set(first) & set(second)
        assert one.wanted.relation in one.task.prompt


def test_a_name_stands_for_all_that_captions_call_so():
    assert set(asking.likes("cat")) == {"cat", "cat face"}
    assert asking.likes("cat face") == ("cat face",)


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_a_share_of_the_requests_is_spread_over_all(share):
    asked = list(prompts.things())
    some = prompts.some(asked, share)
    assert len(some) == max(4, round(len(asked) * share))
    assert len({one.task.seed for one in some}) == len(some)
    assert some[-1] in asked[-len(asked) // 4 :]


def named(*labels):
    """What a judge that is nearly sure would answer."""
    things = np.full((len(labels), len(CLASSES)), -9.0)
    for i, label in enumerate(labels):
        things[i, CLASSES.index(label)] = -0.01
    return judge.Named(np.zeros((len(labels), 2)), things, ["3d"] * len(labels))


LEFT, RIGHT = Spot((0, 50, 50, 100), 2500), Spot((100, 50, 150, 100), 2400)


@pytest.mark.parametrize(
    ("relation", "labels", "told"),
    [
        ("left of", ("cat", "rocket"), (True, True)),
        ("right of", ("cat", "rocket"), (True, False)),
        ("left of", ("rocket", "cat"), (True, False)),
        ("right of", ("rocket", "cat"), (True, True)),
        ("left of", ("cat", "star"), (False, True)),
    ],
)
def test_relations_are_judged_by_who_lies_where(relation, labels, told):
    want = asking.Wanted(things=(("cat",), ("rocket",)), relation=relation)
    got = asking._pair(want, [LEFT, RIGHT], named(*labels), 0)
    assert (got["both things"], got["relation"]) == told
    assert got["both things, related"] == all(told)
    assert not any(asking._pair(want, [LEFT], named(labels[0]), 0).values())


def test_shares_count_only_where_a_measure_was_asked():
    told = [{"thing": True}, {"thing": False, "colour": True}]
    assert asking.shares(told) == {
        "thing": {"right": 0.5, "pictures": 2},
        "colour": {"right": 1.0, "pictures": 1},
    }


@pytest.fixture
def shapes():
    """A Toyland of a yellow disc, a yellow bar and a red square."""
    drawn, rows = [], []
    for name, box, ink in (("disc", None, (250, 200, 40)), ("bar", (20, 100, 236, 156), (250, 200, 40)),
                           ("square", (50, 50, 206, 206), (220, 40, 50))):  # fmt: skip
        icon = Image.new("RGBA", (256, 256))
        pen = ImageDraw.Draw(icon)
        pen.ellipse((30, 30, 226, 226), fill=ink) if box is None else pen.rectangle(box, fill=ink)
        drawn.append(np.asarray(icon))
        rows.append({"label": name, "names": [name], "style": "3d"})
    return SimpleNamespace(pixels=drawn, rows=rows, coats=[coat(one) for one in drawn])


@pytest.mark.parametrize("row", range(3))
def test_an_icon_laid_small_in_a_corner_is_its_own_neighbour(shapes, row):
    ground = np.full((256, 256, 3), GROUNDS["light blue"], np.uint8)
    picture = neighbours.lay(shapes.pixels[row], ground, Spot((20, 30, 120, 130), 1)).astype(np.uint8)
    seen = neighbours.known(shapes)
    copy, name, off = neighbours.closest(picture, shapes, seen)
    assert shapes.rows[row]["label"] in name
    assert off < 25  # of 255: the box is found to a pixel, so edges may be one off
    assert np.abs(copy.astype(int) - picture).mean() < 3
    other = neighbours.closest(picture, shapes, seen, but=row)
    assert shapes.rows[row]["label"] not in other[1]
    assert other[2] > 1.5 * off


@pytest.fixture(scope="module")
def tiny(tiny_folder):
    return load(card_for_folder(tiny_folder), dtype="float32")


def test_pictures_painted_together_are_those_that_the_app_paints(tiny):
    common = {"steps": 3, "width": 64, "height": 64}
    tasks = [
        TextToImage(prompt="a red apple", seed=3, **common),
        TextToImage(prompt="a blue rocket", negative_prompt="cat", seed=4, **common),
        ClassConditional(
            class_name="cat", class_scale=1.0, seed=5, sampler="Euler a", schedule="default", **common
        ),
        ClassConditional(class_name="star", prompt="on red", class_scale=2.0, seed=6, **common),
    ]
    for task, picture in zip(tasks, paint(tiny, tasks)):
        alone = painted(tiny, task)[0].astype(int)
        assert np.abs(alone - picture).max() <= 1
    assert np.abs(alone - paint(tiny, tasks)[0]).max() > 1  # another task's is another picture


@pytest.mark.parametrize("sampler", samplers.FAMILIES)
@pytest.mark.parametrize("calls", [*samplers.FEW, *samplers.MANY["DDPM"]])
def test_samplers_make_no_more_calls_than_they_are_given(sampler, calls):
    kind, steps = samplers.SAMPLERS[sampler], samplers.steps_for(sampler, calls)
    assert calls - kind.calls_per_step < kind.calls(steps) <= calls


def test_the_fine_walk_comes_first():
    first, *rest = samplers.walks(1.0)
    assert (first.sampler, first.calls) == samplers.FINE
    assert samplers.REFERENCE in {walk[:2] for walk in rest}


def test_the_shipped_judge_answers_in_the_promised_shape():
    seen = judge.named([np.zeros((40, 40, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)])
    assert seen.features.shape == (2, judge.WIDTH)
    assert np.exp(seen.things).sum(1) == pytest.approx(1, abs=1e-3)
    assert len(seen.labels) == len(seen.styles) == 2
    assert judge.named([]).labels == []
    assert set(judge.true_features()) == set(truth.COMPARED)


def test_the_judge_was_tried_on_true_pictures_and_is_mostly_right():
    own = judge.manifest()["training"]["on true pictures"]
    assert own["thing"]["pictures"] > 100
    assert all(one["right"] > 0.8 for one in own.values())
