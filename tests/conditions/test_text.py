"""Words to token states: short prompts as transformers has them, long ones whole, endless ones cut."""

from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import BertModel, PreTrainedTokenizerFast

from modules.conditions.text import MOST_WINDOWS, BertText, windows_of
from modules.models.catalog import card_for_folder
from modules.models.loading import load


@pytest.fixture(scope="module")
def tokenizer(tiny_folder) -> Tokenizer:
    found = Tokenizer.from_file(str(tiny_folder / "tokenizer" / "tokenizer.json"))
    found.no_truncation()
    return found


@pytest.fixture(scope="module")
def text(tiny_folder) -> BertText:
    found = load(card_for_folder(tiny_folder), "cpu").text
    assert isinstance(found, BertText)
    return found


@pytest.mark.parametrize("prompt", ["", "a red apple", "Red, RED; heart!", "zzz qqq", "a " * 30])
def test_one_window_is_what_transformers_gives(prompt, text, tiny_folder):
    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(tiny_folder / "tokenizer" / "tokenizer.json"), pad_token="[PAD]"
    )
    inputs = theirs(prompt, padding="max_length", truncation=True, max_length=32, return_tensors="pt")
    bert: BertModel = text.network
    expected = bert(
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        token_type_ids=torch.zeros_like(inputs["input_ids"]),
        position_ids=torch.arange(32)[None],
    ).last_hidden_state
    torch.testing.assert_close(text([prompt])[0].states, expected)
    assert text([prompt])[0].words_cut == 0


def test_all_prompts_get_as_many_windows_as_the_longest(text):
    long, short, empty = text(["red apple " * 20, "cat", ""])
    assert long.states.shape == short.states.shape == empty.states.shape == (1, 64, 32)
    torch.testing.assert_close(short.states[:, :32], text(["cat"])[0].states)
    torch.testing.assert_close(short.states[:, 32:], text([""])[0].states)  # the rest is empty windows


def test_words_are_not_torn_apart(tokenizer):
    windows, cut = windows_of("abcd " * 20, tokenizer, room=30)  # four pieces a word
    assert cut == 0
    assert [len(window) for window in windows] == [28, 28, 24]


def test_what_does_not_fit_is_counted(tokenizer):
    windows, cut = windows_of("cat " * (30 * MOST_WINDOWS + 7), tokenizer, room=30)
    assert len(windows) == MOST_WINDOWS
    assert cut == 7
    assert windows_of("cat " * (30 * MOST_WINDOWS), tokenizer, room=30)[1] == 0


def test_a_word_longer_than_a_window_is_split(tokenizer):
    windows, cut = windows_of("x" * 70, tokenizer, room=30)
    assert (len(windows), cut) == (3, 0)
    assert list(chain(*windows)) == tokenizer.encode("x" * 70, add_special_tokens=False).ids


@settings(max_examples=60)
@given(st.text(max_size=400))
def test_windows_hold_every_token_in_order(tokenizer, prompt):
    windows, cut = windows_of(prompt, tokenizer, room=30)
    assert all(len(window) <= 30 for window in windows)
    kept, whole = list(chain(*windows)), tokenizer.encode(prompt, add_special_tokens=False).ids
    assert kept == whole[: len(kept)]
    assert (kept == whole) == (cut == 0)


@pytest.mark.parametrize(
    "prompt", ["<script>", "قطة حمراء", "👩🏽\u200d🚀", "\ufffd", "x" * 10_000, "猫" * 10_000]
)
def test_any_prompt_is_encoded(prompt, text):
    encoded = text([prompt])[0]
    assert torch.isfinite(encoded.states).all()
    assert encoded.states.shape[1] <= 32 * MOST_WINDOWS


def test_a_tokenizer_without_its_marks_is_refused(tokenizer):
    from tokenizers import models

    with pytest.raises(ValueError, match=r"\[CLS\]"):
        BertText(SimpleNamespace(), Tokenizer(models.WordPiece({"a": 0}, unk_token="a")))
