"""Styles dress a prompt the same way in any order, and never twice."""

import itertools
import re

import pytest

from modules.models.catalog import read_catalogue
from modules.presets.starts import read_presets
from modules.presets.styles import apply, read_styles
from modules.tasks import KINDS, TaskError

STYLES = read_styles()


def test_there_are_enough_and_each_can_hold_a_prompt():
    assert len(STYLES.all) >= 60
    assert len([style for style in STYLES.all.values() if not style.family]) >= 60
    for style in STYLES.all.values():
        blanks = re.findall(r"\{(\w+)\}", style.prompt)
        assert blanks in (["prompt"], ["article", "noun"]), style.name
        assert style.prompt.replace("{prompt}", "").strip(" ,"), style.name


@pytest.mark.parametrize(
    ("names", "prompt", "dressed"),
    [
        (["Flat icon"], "a red apple", "a flat icon of a red apple"),
        (["Big"], "an apple", "a big apple"),
        (["Tiny"], "two pink hearts", "two tiny pink hearts"),
        (["Small"], "rocket", "a small rocket"),
        (
            ["White ground", "3D render", "Big"],
            "a red apple.",
            "a 3D render of a big red apple on a white background",
        ),
        ([], " a star ", "a star"),
        (["Flat icon"], "  ", ""),
    ],
)
def test_worked_examples(names, prompt, dressed):
    assert apply(names, prompt) == (dressed, "")


def test_the_order_of_choosing_does_not_matter():
    names = ["Oil painting", "Low sun", "Calm", "Crisp detail"]
    assert len({apply(order, "a boat", "people") for order in itertools.permutations(names)}) == 1


def test_what_to_avoid_is_joined_and_nothing_is_said_twice():
    prompt, negative = apply(["Oil painting", "Watercolour"], "a boat", "people, photograph")
    assert negative == "people, photograph, smooth gradients, hard outlines"
    assert prompt.startswith("a watercolour of an oil painting of a boat")
    assert apply(["Flat icon"], "a star", "  kept, as it is ,") == (
        "a flat icon of a star",
        "kept, as it is ,",
    )


@pytest.mark.parametrize("name", STYLES.all)
def test_pressing_twice_adds_nothing(name):
    once = apply([name], "a red apple", "")
    assert once[0] != "a red apple"
    assert apply([name], *once) == once


def test_an_unknown_style_is_refused_in_words():
    with pytest.raises(TaskError, match=r"styles is 'Flat icn'; it must be one of .*Flat icon"):
        apply(["Flat icn"], "a star")


def test_each_family_sees_its_own_styles():
    pocket = {style.name for style in STYLES.of("pocket")}
    others = {style.name for style in STYLES.of("stable-diffusion")}
    assert "Flat icon" in pocket - others
    assert "Oil painting" in others - pocket
    assert STYLES.of("flux") == STYLES.of("stable-diffusion")


def test_improve_leaves_out_what_the_prompt_has_chosen():
    assert STYLES.fitting("pocket", "a red apple") == ["3D render", "White ground"]
    assert STYLES.fitting("pocket", "a flat icon of an apple") == ["White ground"]
    assert STYLES.fitting("pocket", "A cartoon cat on a blue Background") == []
    assert set(STYLES.fitting("flux", "a boat at sunset")) == {"Crisp detail", "Room to breathe"}


def test_presets_are_tasks_with_blanks():
    for preset in read_presets().values():
        kind = KINDS[preset.kind or "text_to_image"]
        task = kind.from_dict(preset.fields)
        assert {name: getattr(task, name) for name in preset.fields} == dict(preset.fields)
        assert preset.about.endswith(".")
        assert ("schedule" in preset.fields) == ("sampler" in preset.fields)
        for family, names in preset.styles.items():
            assert set(names) <= {style.name for style in STYLES.of(family)}
    assert {card.family for card in read_catalogue().values()} >= {"pocket"}
