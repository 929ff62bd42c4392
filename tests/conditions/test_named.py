"""Names of embeddings among words: found whole, in any case, and one word however many vectors they are."""

import pytest
from tokenizers import Tokenizer

from modules.conditions.emphasis import parse
from modules.conditions.named import NamedTokens, mentioned
from modules.conditions.windows import windows_of

NAMES = {"EasyNegative": [-1, -2], "<cat-toy>": [-3], "easy": [-4]}


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    found = Tokenizer.from_file(str(tiny_folder / "tokenizer" / "tokenizer.json"))
    found.no_truncation()
    return found


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a cat", []),
        ("easynegative, <CAT-TOY> on a red easynegative", ["EasyNegative", "<cat-toy>"]),
        ("uneasynegative easynegatives x<cat-toy>", []),
        ("easy, EasyNegative", ["easy", "EasyNegative"]),
    ],
)
def test_names_are_words_of_their_own(text, names):
    assert mentioned(text, list(NAMES)) == names


def test_tokens_are_those_of_the_words_around_and_the_name_s_own(tokenizer):
    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    named = NamedTokens(tokenizer, NAMES)
    found = named.encode("a red easynegative, cat<cat-toy>")
    assert found.ids == [*ids("a red"), -1, -2, *ids(", cat<cat-toy>")]
    found = named.encode("red EASYNEGATIVE cat <cat-toy>")
    assert found.ids == [*ids("red"), -1, -2, *ids("cat"), -3]
    assert found.word_ids == [0, 1, 1, 2, 3]
    assert found.offsets[1] == found.offsets[2] == (4, 16)
    for text in ("", "a red cat"):
        assert named.encode(text).ids == NamedTokens(tokenizer, {}).encode(text).ids == ids(text)


def test_weights_hold_for_names_and_windows_do_not_cut_them(tokenizer):
    named = NamedTokens(tokenizer, NAMES)
    (window,), left = windows_of(parse("red (easynegative:1.3)"), named, 5)
    assert ([(token.id, token.weight) for token in window][1:], left) == ([(-1, 1.3), (-2, 1.3)], "")
    first, second = windows_of(parse("red cat easynegative"), named, 3)[0]
    assert [token.id for token in second] == [-1, -2]
    assert len(first) == 2
