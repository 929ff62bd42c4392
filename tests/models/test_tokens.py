"""The count that the page shows is the count that the encoder uses, read without any weights."""

import json
import subprocess
import sys

import pytest

from modules.models.catalog import card_for_folder, read_catalogue
from modules.models.tokens import count_tokens
from tests.tiny import write_tiny_stable_diffusion


@pytest.mark.parametrize(
    ("prompt", "used", "available", "windows"),
    [
        ("", 0, 30, 1),
        ("a red apple", 3, 30, 1),
        ("a (red:1.3) apple", 3, 30, 1),
        ("a red apple BREAK a cat", 6, 30, 1),  # a comma
        ("red apple " * 15, 30, 30, 1),
        ("red apple " * 16, 32, 60, 2),
    ],
)
def test_worked_examples(prompt, used, available, windows, tiny_folder):
    found = count_tokens(card_for_folder(tiny_folder), prompt)
    assert found == (used, available, windows, "")


def test_what_does_not_fit_is_named(tiny_folder):
    found = count_tokens(card_for_folder(tiny_folder), "cat " * 240 + "(red:1.2) hat")
    assert found.left_out == "red hat"
    assert (found.used, found.available) == (240, 240)


def test_pocket_counts_as_its_own_tokenizer():
    found = count_tokens(read_catalogue()["pocket"], "a purple cat face")
    assert (found.used, found.available) == (4, 30)


@pytest.mark.parametrize("prompt", ["a red cat", "Red, RED; 10 cats' eyes!", "café   \n naïve", "x" * 200])
def test_clip_counts_as_transformers_does_from_either_layout(prompt, tmp_path):
    from transformers import CLIPTokenizer

    folder = write_tiny_stable_diffusion(tmp_path / "sd")
    theirs = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    expected = len(theirs(prompt, add_special_tokens=False)["input_ids"])
    assert count_tokens(card_for_folder(folder), prompt).used == expected
    (folder / "tokenizer" / "tokenizer.json").unlink()
    assert count_tokens(card_for_folder(folder), prompt) is None
    letters = json.dumps(theirs.get_vocab())
    (folder / "tokenizer" / "vocab.json").write_text(letters)
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    assert count_tokens(card_for_folder(folder), prompt).used == expected


def test_break_begins_a_window_for_clip(tmp_path):
    card = card_for_folder(write_tiny_stable_diffusion(tmp_path / "sd"))
    assert count_tokens(card, "cat BREAK red") == (6, 150, 2, "")


def test_counting_imports_no_torch():
    code = (
        "import sys; from modules.models.tokens import count_tokens;"
        "from modules.models.catalog import read_catalogue;"
        "count_tokens(read_catalogue()['pocket'], 'a cat'); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
