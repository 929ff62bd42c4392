"""Tags of LoRAs in a prompt: read as A1111 reads them, and never seen by the text encoder."""

import pytest

from modules.conditions.tags import LoraTag, taken_out, words
from modules.tasks import TaskError, TextToImage


@pytest.mark.parametrize(
    ("prompt", "left", "tags"),
    [
        ("a cat", "a cat", ()),
        ("a cat <lora:soft:0.8>", "a cat", (LoraTag("soft", 0.8, 0.8),)),
        ("<lora:soft> a cat", "a cat", (LoraTag("soft"),)),
        ("a <LoRA: my style v2 : -1.5 > cat", "a  cat", (LoraTag("my style v2", -1.5, -1.5),)),
        ("<lora:a:0.5:1><lyco:b:1>", "", (LoraTag("a", 1.0, 0.5), LoraTag("b"))),
        ("a <cat-toy> and (1 < 2:1.1)", "a <cat-toy> and (1 < 2:1.1)", ()),
    ],
)
def test_worked_examples(prompt, left, tags):
    task, found = taken_out(TextToImage(prompt=prompt, negative_prompt="dog"))
    assert (task.prompt, found) == (left, tags)
    assert words(prompt) == left
    assert task.negative_prompt == "dog"


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("<lora:>", "<lora:> is no LoRA: write <lora:name:0.8>"),
        ("<lora:a:1:2:3>", "is no LoRA"),
        ("<lora:a:strong>", "The weight in <lora:a:strong> must be a number from -20 to 20"),
        ("<lora:a:nan>", "must be a number"),
        ("<lora:a:21>", "from -20 to 20"),
        ("<hypernet:a:1>", "asks for a hypernetwork"),
    ],
)
def test_what_is_no_tag_is_a_sentence(prompt, sentence):
    with pytest.raises(TaskError, match=sentence) as refusal:
        taken_out(TextToImage(prompt=prompt))
    assert refusal.value.field == "prompt"


def test_in_the_negative_prompt_it_is_refused():
    with pytest.raises(TaskError, match="move it into the prompt") as refusal:
        taken_out(TextToImage(negative_prompt="blur <lora:a:1>"))
    assert refusal.value.field == "negative_prompt"
