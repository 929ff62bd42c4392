"""A template and a seed always say the same, and what was drawn holds nothing more to draw."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.presets import wildcards
from modules.presets.wildcards import read_lists, resolve, resolved
from modules.tasks import LONGEST_TEXT, TaskError, TextToImage


def test_the_same_seed_says_the_same_words_everywhere():
    template = "a {red|green|blue} __animal__"
    assert resolved(template, 7) == resolved(template, 7)
    assert [resolved("{red|green|blue}", seed) for seed in range(8)] == [  # SHA-256 of "0/prompt/1", ...
        "blue", "red", "blue", "red", "blue", "green", "blue", "green",
    ]  # fmt: skip


def test_every_option_comes_up_about_as_often():
    drawn = [resolved("{a|b|c|d}", seed) for seed in range(4000)]
    assert all(900 < drawn.count(letter) < 1100 for letter in "abcd")


def test_each_place_draws_for_itself():
    pairs = {resolved("__colour__ __colour__", seed) for seed in range(200)}
    assert len(pairs) > 60
    task = resolve(TextToImage(prompt="{a|b|c|d|e|f|g|h}", negative_prompt="{a|b|c|d|e|f|g|h}", seed=3))
    assert (task.prompt, task.negative_prompt) == (
        resolved("{a|b|c|d|e|f|g|h}", 3), resolved("{a|b|c|d|e|f|g|h}", 3, "negative_prompt"),
    )  # fmt: skip


def test_choices_may_hold_choices_wildcards_and_nothing():
    seen = {resolved("a {big |}{cat|{old|young} dog|__animal__}", seed) for seed in range(300)}
    assert {"a big cat", "a cat", "a old dog"} <= seen
    assert any(word in "".join(seen) for word in ("panda", "snail"))
    assert not any(re.search(r"[{}|_]", words) for words in seen)


@pytest.mark.parametrize(
    "text", ["{", "}", "{a}", "a | b", "____", "__ x __", "{{word}}", "snake_case", "{prompt}"]
)
def test_what_is_no_template_stays_as_it_is(text):
    assert resolved(text, 1) == text


def test_names_are_read_with_any_case_and_an_unknown_one_is_refused_in_words():
    assert resolved("__ANIMAL__", 5) == resolved("__animal__", 5) in read_lists()["animal"]
    with pytest.raises(TaskError, match=r"A wildcard in the negative prompt is 'animl'.*animal") as refusal:
        resolve(TextToImage(negative_prompt="__animl__", seed=0))
    assert refusal.value.field == "negative_prompt"


def test_lists_that_name_each_other_end_in_a_sentence(monkeypatch):
    monkeypatch.setattr(wildcards, "read_lists", lambda: {"a": ("__b__",), "b": ("__a__ __a__",)})
    with pytest.raises(TaskError, match=r"more than 1,000 choices"):
        resolved("__a__", 0)


def test_a_prompt_that_grows_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(wildcards, "read_lists", lambda: {"long": ("x" * 100,)})
    with pytest.raises(TaskError, match="grows beyond 10,000"):
        resolved("__long__ " * 200, 0)


@given(st.text(alphabet="ab{}|_ ", max_size=60), st.integers(0, 2**63 - 1))
def test_drawing_twice_changes_nothing(template, seed):
    try:
        once = resolved(template, seed)
    except TaskError:
        return
    assert resolved(once, seed) == resolved(once, seed + 1) == once


@pytest.mark.parametrize(
    "template", ["{" * LONGEST_TEXT, "{" + "a|" * 4999, "{a|" * 3000 + "}" * 900, "_" * 10_000]
)
def test_hostile_templates_end(template):
    assert isinstance(resolved(template, 0), str)


def test_the_lists_that_come_with_the_studio_are_plain_and_small():
    lists = read_lists()
    assert {"animal", "colour", "food", "thing", "ground", "season", "hour", "place", "mood"} == set(lists)
    for lines in lists.values():
        assert len(set(lines)) == len(lines) > 3
        assert all(line == resolved(line, 0) for line in lines)
