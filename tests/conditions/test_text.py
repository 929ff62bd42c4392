"""Words to token states: short prompts as transformers has them, long ones whole, endless ones cut."""

from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from modules.conditions.emphasis import Piece
from modules.conditions.text import BertText, ClipText, from_nothing, mean_kept
from modules.conditions.windows import MOST_WINDOWS, windows_of
from modules.models.catalog import card_for_folder
from modules.models.files import read_json
from modules.models.loading import load
from tests.tiny import write_tiny_stable_diffusion


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
    bert = BertModel(BertConfig.from_dict(read_json(tiny_folder / "text_encoder", "config.json"))).eval()
    bert.load_state_dict(text.network.state_dict(), strict=False)  # the pooler's weights are not used
    expected = bert(inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    torch.testing.assert_close(text([prompt])[0].states, expected)
    assert text([prompt])[0].words_cut == 0


def test_all_prompts_get_as_many_windows_as_the_longest(text):
    long, short, empty = text(["red apple " * 20, "cat", ""])
    assert long.states.shape == short.states.shape == empty.states.shape == (1, 64, 32)
    torch.testing.assert_close(short.states[:, :32], text(["cat"])[0].states)
    torch.testing.assert_close(short.states[:, 32:], text([""])[0].states)  # the rest is empty windows


def laid(prompt, tokenizer):
    """A prompt's token ids in windows of 30, and the words that did not fit."""
    windows, left = windows_of([[Piece(prompt)]], tokenizer, 30)
    return [[token.id for token in window] for window in windows], left


def test_words_are_not_torn_apart(tokenizer):
    windows, cut = laid("abcd " * 20, tokenizer)  # four pieces a word
    assert cut == ""
    assert [len(window) for window in windows] == [28, 28, 24]


def test_what_does_not_fit_is_named_and_counted(tokenizer, text):
    windows, cut = laid("cat " * (30 * MOST_WINDOWS + 5) + "red hat", tokenizer)
    assert len(windows) == MOST_WINDOWS
    assert cut == "cat " * 5 + "red hat"
    assert text(["cat " * (30 * MOST_WINDOWS + 5) + "red hat"])[0].words_cut == 7
    assert laid("cat " * (30 * MOST_WINDOWS), tokenizer)[1] == ""


def test_a_word_longer_than_a_window_is_split(tokenizer):
    windows, cut = laid("x" * 70, tokenizer)
    assert (len(windows), cut) == (3, "")
    assert list(chain(*windows)) == tokenizer.encode("x" * 70, add_special_tokens=False).ids


@settings(max_examples=60)
@given(st.text(max_size=400))
def test_windows_hold_every_token_in_order(tokenizer, prompt):
    windows, cut = laid(prompt, tokenizer)
    assert all(len(window) <= 30 for window in windows)
    kept, whole = list(chain(*windows)), tokenizer.encode(prompt, add_special_tokens=False).ids
    assert kept == whole[: len(kept)]
    assert (kept == whole) == (cut == "")


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


# Weights. The tiny networks know nothing, so what is tested is the arithmetic and who is touched by it.


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> ClipText:
    folder = write_tiny_stable_diffusion(tmp_path_factory.mktemp("sd") / "sd")
    found = load(card_for_folder(folder), "cpu").text
    assert isinstance(found, ClipText)
    # A trained CLIP's states have a mean that is not zero; a norm without a shift has none to keep.
    for name, bias in found.network.named_parameters():
        if name.endswith("final_layer_norm.bias"):
            bias.data += 0.3
    return found


@pytest.mark.parametrize("encoder", ["text", "clip"])
@pytest.mark.parametrize("same", ["(a red cat:1.0)", "a (red:1) cat", "a ([red]) cat", "[(a)( red cat)]"])
def test_weight_one_is_the_plain_prompt_to_the_last_bit(encoder, same, request):
    encoder = request.getfixturevalue(encoder)
    assert torch.equal(encoder([same])[0].states, encoder(["a red cat"])[0].states)


def test_pocket_moves_the_weighted_token_alone_away_from_nothing(text):
    plain, weighted, empty = (text([prompt])[0].states[0] for prompt in ("a red cat", "a (red:1.5) cat", ""))
    torch.testing.assert_close(weighted[2], empty[2] + 1.5 * (plain[2] - empty[2]))  # [CLS] a red
    others = [0, 1, *range(3, 32)]
    assert torch.equal(weighted[others], plain[others])
    torch.testing.assert_close(text(["a (red:0) cat"])[0].states[0, 2], empty[2])


def test_pocket_takes_break_for_a_comma(text):
    assert torch.equal(text(["a cat BREAK red"])[0].states, text(["a cat, red"])[0].states)


def test_the_weights_of_the_negative_prompt_are_its_own(text):
    prompt, negative = text(["a red cat", "a (red:1.5) cat"])
    torch.testing.assert_close(prompt.states, text(["a red cat"])[0].states)
    torch.testing.assert_close(negative.states, text(["a (red:1.5) cat"])[0].states)


def test_clip_multiplies_and_keeps_the_mean(clip):
    plain, weighted = clip(["red cat"])[0].states, clip(["(red:1.4) cat"])[0].states
    weights = torch.tensor([1.0] + [1.4] * 3 + [1.0] * 73)[None, :, None]  # three letters, three tokens
    expected = plain * weights * (plain.mean() / (plain * weights).mean())
    torch.testing.assert_close(weighted, expected)
    torch.testing.assert_close(weighted.mean(), plain.mean())
    torch.testing.assert_close(clip(["(red:1.21) cat"])[0].states, clip(["((red)) cat"])[0].states)


def test_clip_begins_a_window_at_break_and_keeps_the_order(clip):
    joined = clip(["red BREAK cat"])[0].states
    assert joined.shape[1] == 154
    torch.testing.assert_close(joined[:, :77], clip(["red"])[0].states)
    torch.testing.assert_close(joined[:, 77:], clip(["cat"])[0].states)
    assert torch.equal(clip(["red BREAK"])[0].states, clip(["red"])[0].states)


def test_a_weight_in_one_window_leaves_the_other(clip):
    plain, weighted = clip(["red BREAK cat"])[0].states, clip(["red BREAK (cat:1.3)"])[0].states
    assert torch.equal(weighted[:, :77], plain[:, :77])
    assert not torch.allclose(weighted[:, 77:], plain[:, 77:])


def test_worked_numbers():
    empty, states = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 0.0]]])
    assert from_nothing(states, empty, torch.tensor([[2.0]])).tolist() == [[[5.0, -2.0]]]
    states = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])  # mean 2; weighted (2, 6), (2, 2): mean 3
    kept = mean_kept(states, torch.tensor([[2.0, 1.0]]))
    torch.testing.assert_close(kept, torch.tensor([[[2.0, 6.0], [2.0, 2.0]]]) * 2 / 3)


def test_states_without_a_mean_are_not_scaled_by_chance():
    states = torch.tensor([[[1.0, -1.0], [2.0, -2.0 + 1e-7]]])
    kept = mean_kept(states, torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(kept, torch.tensor([[[3.0, -3.0], [2.0, -2.0]]]))
