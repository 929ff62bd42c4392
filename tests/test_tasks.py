"""The Task kinds: what they refuse, what they mend, and that JSON keeps them whole."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.tasks import (
    KINDS,
    LARGEST_SEED,
    LONGEST_TEXT,
    ClassConditional,
    Controlled,
    Inpaint,
    Limits,
    Task,
    TaskError,
    TextToImage,
    check,
    clean,
    default,
    limits,
)


def strategy_for(field: dataclasses.Field) -> st.SearchStrategy:
    """Any value that a field accepts."""
    meta = field.metadata
    if "limits" in meta:
        low, high, step = meta["limits"]
        if isinstance(field.default, int):
            return st.integers(0, int((high - low) // step)).map(lambda k: int(low + k * step))
        return st.floats(low, high)
    if "longest" in meta:
        return st.text(max_size=200)
    return st.booleans() if "switch" in meta else st.sampled_from(meta.get("options", [None]))


@st.composite
def tasks(draw) -> Task:
    """Any valid task of any kind, without pictures."""
    kind = draw(st.sampled_from(list(KINDS.values())))
    values = {field.name: draw(strategy_for(field)) for field in dataclasses.fields(kind)}
    if kind is Controlled:
        values["control_start"], values["control_end"] = sorted(
            (values["control_start"], values["control_end"])
        )
    return kind(**values)


@given(tasks())
def test_json_round_trip(task):
    assert Task.from_json(task.to_json()) == task


@given(tasks())
def test_json_is_plain_and_names_its_kind(task):
    values = json.loads(task.to_json())
    assert KINDS[values.pop("kind")] is type(task)
    assert values == task.scalars()


@given(tasks(), st.data())
def test_a_number_out_of_limits_is_refused_by_name(task, data):
    numbers = [field for field in dataclasses.fields(task) if "limits" in field.metadata]
    field = data.draw(st.sampled_from(numbers))
    low, high, _ = field.metadata["limits"]
    bad = data.draw(
        st.one_of(
            st.floats(max_value=float(low), exclude_max=True),
            st.floats(min_value=float(high), exclude_min=True),
            st.integers(max_value=math.ceil(low) - 1),
            st.integers(min_value=math.floor(high) + 1),
            st.just(math.nan),
            st.just("7"),
            st.just(True),
            st.none(),
        )
    )
    with pytest.raises(TaskError) as refusal:
        dataclasses.replace(task, **{field.name: bad})
    assert refusal.value.field == field.name
    assert field.name in str(refusal.value)


def test_the_sentence_names_field_value_and_limits():
    with pytest.raises(TaskError, match=r"^steps is 0; it must be a whole number from 1 to 1000\.$"):
        TextToImage(steps=0)
    with pytest.raises(TaskError, match=r"^guidance_scale is nan; it must be a number from 0 to 30\.$"):
        TextToImage(guidance_scale=math.nan)
    with pytest.raises(TaskError, match=r"^width is -64; it must be a whole number from 64 to 2048\.$"):
        TextToImage(width=-64)
    with pytest.raises(TaskError, match=r"^height is 100; .* from 64 to 2048, in steps of 64\.$"):
        TextToImage(height=100)
    with pytest.raises(TaskError, match=r"^prompt has 10,001 characters; it may have at most 10,000\.$"):
        TextToImage(prompt="x" * (LONGEST_TEXT + 1))


def test_odd_numbers_are_refused():
    for value in (10**400, 10**5000, math.inf, -math.inf, 20.5, "20", b"20", [20], None):
        with pytest.raises(TaskError):
            TextToImage(steps=value)


def test_whole_floats_become_whole_numbers():
    task = TextToImage(steps=12.0, guidance_scale=3)
    assert task.steps == 12
    assert isinstance(task.steps, int)
    assert isinstance(task.guidance_scale, float)


def test_seeds_have_sixty_four_bits_and_lose_none():
    task = TextToImage(seed=LARGEST_SEED)
    assert task.seed == 2**63 - 1
    assert Task.from_json(task.to_json()) == task
    with pytest.raises(TaskError):
        TextToImage(seed=LARGEST_SEED + 1)


@given(st.text(st.characters(codec=None), max_size=300))  # lone surrogates and NUL included
def test_any_text_is_cleaned_for_good(raw):
    kept = TextToImage(prompt=raw).prompt
    assert kept.encode("utf-8").decode("utf-8") == kept
    assert "\x00" not in kept
    assert clean(kept) == kept


def test_text_that_means_something_is_kept():
    for prompt in ("<b>&amp;</b>", "قطة حمراء", "👩🏽\u200d🚀 🍕", "a\nb\tc"):
        assert TextToImage(prompt=prompt).prompt == prompt
    assert TextToImage(prompt="a\x00b\ud83d\ude00\ud800\r\nc").prompt == "ab😀\ufffd\nc"


@pytest.mark.parametrize(
    "source",
    ["", "{", "[]", "{}", '{"kind": "nothing"}', '{"kind": ["x"]}', '{"kind": "inpaint", "stepz": 3}',
     '{"kind": "text_to_image", "steps": 1e999}', "[" * 100_000],
)  # fmt: skip
def test_what_is_not_a_task_is_refused(source):
    with pytest.raises(TaskError):
        Task.from_json(source)


def test_control_starts_before_it_ends():
    with pytest.raises(TaskError, match="control_start"):
        Controlled(control_start=0.5, control_end=0.25)


def test_closed_choices_are_listed():
    with pytest.raises(TaskError, match="auto, always, never"):
        Controlled(detect="perhaps")
    with pytest.raises(TaskError, match="only_masked"):
        Inpaint(only_masked="yes")


def test_limits_narrow_and_never_widen():
    card, public = (
        {"width": Limits(128, 512, 128)},
        {"width": Limits(64, 4096, 64), "steps": Limits(1, 50, 1)},
    )
    assert limits(TextToImage, "width", card, public) == Limits(128, 512, 128)
    assert limits(TextToImage, "steps", card, public) == Limits(1, 50, 1)
    assert limits(TextToImage, "batch_size", card, public) == Limits(1, 16, 1)


def test_check_applies_narrower_limits_in_words():
    check(TextToImage(steps=50), {"steps": Limits(1, 50, 1)}, "this studio takes")
    with pytest.raises(TaskError, match=r"^steps is 51; this studio takes 1 to 50\.$"):
        check(TextToImage(steps=51), {"steps": Limits(1, 50, 1)}, "this studio takes")
    with pytest.raises(TaskError, match=r"512 x 512 = 262144 pixels; this studio takes 4096 to 65536\."):
        check(TextToImage(width=512, height=512), {"pixels": Limits(4096, 65536, 1)}, "this studio takes")
    with pytest.raises(TaskError, match=r"width is 192; Pocket takes 128 to 512 in steps of 128\."):
        check(TextToImage(width=192), {"width": Limits(128, 512, 128)}, "Pocket takes")
    check(TextToImage(), {"class_scale": Limits(0, 1, 0.1)}, "this studio takes")  # not a field of this kind


def test_every_default_is_valid_and_every_field_explains_itself():
    for kind in KINDS.values():
        kind()
        for field in dataclasses.fields(kind):
            assert field.metadata["help"].endswith(".")
    assert default(ClassConditional, "class_scale") == 3.0


def test_a_task_is_frozen_and_hashable():
    task = TextToImage()
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.steps = 3  # type: ignore[misc]
    assert len({task, TextToImage(), TextToImage(steps=21)}) == 2
