"""A1111's syntax: worked examples of its own documentation, and what no prompt may break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.conditions.emphasis import Piece, parse, paused, plain
from modules.tasks import TaskError


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("((word))", [("word", 1.21)]),
        ("(word:1.2)", [("word", 1.2)]),
        ("(word : .5 )", [("word ", 0.5)]),
        ("[word]", [("word", 1 / 1.1)]),
        ("([word])", [("word", 1)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("un)balanced]", [("un)balanced]", 1)]),
        ("a :1.2) b", [("a :1.2) b", 1)]),
        (r"\(literal\]", [("(literal]", 1)]),
        (r"a \\ b \ c", [("a \\ b \\ c", 1)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("time 10:30, (a:b)", [("time 10:30, ", 1), ("a:b", 1.1)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
        ("(cat:1.2.3)", [("cat:1.2.3", 1.1)]),
        ("(cat:-1)", [("cat", -1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55),
                (", sun, ", 1.1), ("sky", 1.4641), (".", 1.1),
            ],
        ),
        ("", [("", 1)]),
        ("()", [("", 1)]),
    ],
)  # fmt: skip
def test_worked_examples(prompt, pieces):
    (found,) = parse(prompt)
    assert [piece.text for piece in found] == [text for text, _ in pieces]
    assert [piece.weight for piece in found] == pytest.approx([weight for _, weight in pieces])


def test_brackets_that_cancel_are_exactly_one():
    assert parse("[((([[word]])))]") == [[Piece("word", 1.0)]]


def test_break_begins_a_part_and_keeps_the_weights():
    assert parse("a cat BREAK (red BREAK sky:1.5)") == [
        [Piece("a cat")],
        [Piece("red", 1.5)],
        [Piece("sky", 1.5)],
    ]
    assert parse("BREAK a BREAK BREAK b BREAK ") == [[Piece("a")], [Piece("b")]]
    assert parse("BREAKFAST, break") == [[Piece("BREAKFAST, break")]]
    assert plain(parse("a (cat:1.2) BREAK [sky]")) == "a cat, sky"
    assert paused(parse("a BREAK b BREAK (c)")) == [Piece("a, b, "), Piece("c", 1.1)]


@pytest.mark.parametrize("prompt", ["(a:21)", "(a:-20.5)", "((a:20))", "(" * 4000 + "a", "(" * 9000 + "a"])
def test_a_weight_beyond_reason_is_refused_in_words(prompt):
    with pytest.raises(
        TaskError, match=r"A weight in the prompt is .*; it must be from -20 to 20"
    ) as refusal:
        parse(prompt)
    assert refusal.value.field == "prompt"


@given(st.text(alphabet="ab :1.\\()[]\n", max_size=60))
def test_any_prompt_is_read_or_refused(prompt):
    try:
        parts = parse(prompt)
    except TaskError:
        return
    assert all(abs(piece.weight) <= 20 for part in parts for piece in part)
    assert plain(parts).count("a") == prompt.count("a")


@given(st.text(max_size=80).filter(lambda text: not set("()[]\\") & set(text) and "BREAK" not in text))
def test_a_prompt_without_signs_comes_back_as_it_is(prompt):
    assert parse(prompt) == [[Piece(prompt)]]


@pytest.mark.parametrize(("before", "after"), [("[a", ""), ("(a", ":.5)"), (" ", ""), ("[a", "(a])")])
def test_endless_brackets_are_read(before, after):
    count = 10_000 // len(before + after)
    prompt = before * count + after * count
    assert plain(parse(prompt)).count("a") == prompt.count("a")
