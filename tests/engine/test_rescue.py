"""Runs that fail are saved: equal pictures in smaller parts, float32 where halves break, none kept alive."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch

from modules.diffusion.sampling import Step
from modules.engine.generation import BrokenPicture, GenerationError, Result, generate
from modules.engine.rescue import SINGLY, SPARINGLY, WHOLE, in_float32, rescued, rung_for
from modules.models import memory
from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.tasks import ClassConditional, TextToImage

TASK = TextToImage(
    prompt="a red {apple|cat}", steps=3, seed=11, width=128, height=128, batch_size=3, model="tiny"
)
EXHAUSTED = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1 GB)."),
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4000000 bytes."),
    "xpu": RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
    "python": MemoryError(),
}


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load(card_for_folder(tiny_folder), "cpu", "float32")


class Unet(torch.nn.Module):
    """The model's own network, which fails where `wrong(x, call)` gives an error, or another answer."""

    def __init__(self, model, wrong):
        super().__init__()
        self.inner, self.config, self.wrong, self.sizes = model.unet, model.unet.config, wrong, []

    def forward(self, x, *args, **kwargs):
        self.sizes.append(len(x))
        scratch = torch.zeros(3)
        self.scratch = weakref.ref(scratch)
        found = self.wrong(x, len(self.sizes))
        if isinstance(found, Exception):
            raise found
        return self.inner(x, *args, **kwargs) if found is None else (found,)


def with_unet(model, wrong):
    return dataclasses.replace(model, unet=Unet(model, wrong))


def paint(model, task, **how):
    *steps, result = rescued(model, task, **how)
    assert isinstance(result, Result)
    assert all(isinstance(step, Step) for step in steps)
    return steps, result


def apart(one, other):
    assert len(one.images) == len(other.images)
    return max(
        int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) for a, b in zip(one.images, other.images)
    )


@pytest.mark.parametrize("error", EXHAUSTED.values(), ids=EXHAUSTED)
def test_exhaustion_is_told_from_other_trouble(error):
    assert memory.ran_out(error)
    assert not memory.ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.ran_out(ValueError("out of memory"))


def test_the_cpu_itself_says_so():
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.ran_out(refusal.value)


def test_what_does_not_fail_is_untouched(model):
    (_, ours), (*_, plain) = paint(model, TASK), generate(model, TASK)
    assert apart(ours, plain) == 0
    assert "rescue" not in ours.info
    assert {**ours.info, "seconds": 0} == {**plain.info, "seconds": 0}


@pytest.mark.parametrize("error", ["cuda", "cpu"])
@pytest.mark.parametrize("call", [1, 3])
def test_a_batch_that_is_too_large_is_made_of_its_singles(error, call, model):
    small = with_unet(model, lambda x, n: EXHAUSTED[error] if len(x) > 2 and n == call else None)
    (_, saved), (*_, plain) = paint(small, TASK), generate(model, TASK)
    assert apart(saved, plain) <= 1
    assert saved.info["rescue"] == "Memory ran out, so the pictures were made one at a time."
    for name in ("seed", "seeds", "batch_size", "prompt", "prompt_template", "model_hash", "snr", "size"):
        assert saved.info[name] == plain.info[name], name
    assert small.unet.sizes[-3:] == [2, 2, 2]


def test_seeds_that_are_drawn_are_drawn_once(model):
    drawn = []
    small = with_unet(model, lambda x, n: EXHAUSTED["mps"] if len(x) > 2 else None)
    for _ in range(2):
        saved = paint(small, dataclasses.replace(TASK, seed=-1))[1]
        drawn.append(saved.info["seed"])
        again = paint(model, dataclasses.replace(TASK, seed=saved.info["seed"]))[1]
        assert apart(saved, again) <= 1
    assert drawn[0] != drawn[1]


def test_a_picture_that_is_too_large_is_made_in_parts(model):
    small = with_unet(model, lambda x, n: EXHAUSTED["cpu"] if len(x) > 1 else None)
    for batch in (1, 2):
        task = dataclasses.replace(TASK, batch_size=batch)
        (_, saved), (*_, plain) = paint(small, task), generate(model, task)
        assert apart(saved, plain) <= 1  # no tiles are needed at this size
        assert saved.info["rescue"].endswith("made in parts and decoded in tiles.")


def test_a_decoder_that_is_too_large_works_in_tiles(model):
    seen = []

    class Decoder:
        def __getattr__(self, name):
            return getattr(model.autoencoder, name)

        def decode(self, latents):
            seen.append(tuple(latents.shape[-2:]))
            if max(seen[-1]) > 16:
                raise EXHAUSTED["cuda"]
            return model.autoencoder.decode(latents)

    small = dataclasses.replace(model, autoencoder=Decoder())
    task = dataclasses.replace(TASK, width=320, height=256, batch_size=1, steps=1)
    saved = paint(small, task)[1]
    assert saved.images[0].size == (320, 256)
    assert seen == [(16, 20), (16, 16), (16, 16)]


def test_what_nothing_helps_ends_with_a_sentence_and_lets_go(model):
    hopeless = with_unet(model, lambda x, n: RuntimeError("CUDA out of memory."))
    with pytest.raises(GenerationError, match=r"not enough memory on cpu for this picture.*smaller") as end:
        paint(hopeless, TASK)
    assert hopeless.unet.sizes == [6, 2, 1]
    assert end.value.__cause__ is end.value.__context__ is None
    assert hopeless.unet.scratch() is None
    paint(model, TASK)  # and the next one works


def test_no_latents_outlive_a_failure(model):
    kept = []

    def wrong(x, call):
        kept.append(weakref.ref(x))
        return RuntimeError("MPS backend out of memory") if len(x) > 2 else None

    small = with_unet(model, wrong)
    events = rescued(small, TASK)
    next(events)  # the second attempt's first step
    assert kept[0]() is None
    events.close()


def test_other_errors_are_not_ours(model):
    with pytest.raises(RuntimeError, match="mat1"):
        paint(with_unet(model, lambda x, n: RuntimeError("mat1 and mat2")), TASK)


def test_closing_stops_at_once(model):
    events = rescued(model, TASK)
    next(events)
    events.close()
    assert list(events) == []


@pytest.fixture
def halves(tiny_folder):
    """The tiny model in bfloat16, the half precision that every CPU can compute."""
    return load(card_for_folder(tiny_folder), "cpu", "bfloat16")


BROKEN = {
    "not numbers": lambda x: x * float("nan"),
    "blank": lambda x: torch.zeros_like(x),
}


def test_numbers_that_break_in_half_are_computed_again_in_float32(halves, model):
    broken = with_unet(halves, lambda x, n: BROKEN["not numbers"](x) if x.dtype != torch.float32 else None)
    weights = [value.clone() for value in broken.unet.parameters()]
    saved = paint(broken, TASK)[1]
    assert saved.info["rescue"] == (
        "The picture stopped being numbers after step 1 of 3 (computed in bfloat16), "
        "so it was computed again in float32."
    )
    assert saved.info["dtype"] == "float32"
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(weights, broken.unet.parameters()))
    assert halves.autoencoder.dtype == torch.bfloat16


def test_a_blank_picture_is_no_success(model, halves):
    class Blank:
        dtype = torch.float32

        def __getattr__(self, name):
            return getattr(model.autoencoder, name)

        def decode(self, latents):
            answer = model.autoencoder.decode(latents)
            answer.sample.fill_(-1)
            return answer

    with pytest.raises(BrokenPicture, match=r"came out blank in the decoder \(computed in float32\)"):
        paint(dataclasses.replace(model, autoencoder=Blank()), TASK)
    with pytest.raises(BrokenPicture, match="float32"):  # tried once more, and told of the second try
        paint(dataclasses.replace(halves, autoencoder=Blank()), TASK)


def test_latents_that_are_one_value_all_over_are_no_success(model, monkeypatch):
    from modules.engine import generation

    def flat(*args, **kwargs):
        for step in sample(*args, **kwargs):
            yield dataclasses.replace(step, latents=torch.full_like(step.latents, 0.5))

    sample = generation.sample
    monkeypatch.setattr(generation, "sample", flat)
    with pytest.raises(BrokenPicture, match="came out blank in the network"):
        paint(model, TASK)


def test_float32_that_breaks_is_not_tried_twice(model):
    broken = with_unet(model, lambda x, n: BROKEN["not numbers"](x))
    with pytest.raises(BrokenPicture):
        paint(broken, TASK)
    assert len(broken.unet.sizes) == 1


def test_both_troubles_at_once(halves):
    def wrong(x, call):
        if len(x) > 2:
            return EXHAUSTED["cuda"]
        return BROKEN["not numbers"](x) if x.dtype != torch.float32 else None

    saved = paint(with_unet(halves, wrong), TASK)[1]
    assert len(saved.images) == 3
    assert saved.info["rescue"].count("so ") == 2


def test_float32_gives_every_bit_back_even_where_it_fails(halves):
    before = {name: value.clone() for name, value in halves.unet.state_dict().items()}
    seen = []

    def fail():
        with in_float32(halves) as wide:
            seen.extend([wide.dtype, next(wide.unet.parameters()).dtype])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [torch.float32, torch.float32]
    after = halves.unet.state_dict()
    assert all(
        torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items()
    )


def test_the_forecast_chooses_the_first_rung_that_fits():
    one = dataclasses.replace(TASK, batch_size=1)
    assert rung_for(TASK, lambda task: True) == WHOLE
    assert rung_for(TASK, lambda task: task.batch_size == 1) == SINGLY
    assert rung_for(TASK, lambda task: False) == rung_for(one, lambda task: False) == SPARINGLY


def test_a_rung_that_was_chosen_is_told(model):
    saved = paint(model, TASK, rung=SINGLY)[1]
    assert saved.info["rescue"] == "Memory is short, so the pictures were made one at a time."


def test_classes_are_saved_too(model):
    task = ClassConditional(
        class_name="cat", batch_size=2, steps=2, seed=3, width=64, height=64, model="tiny"
    )
    small = with_unet(model, lambda x, n: EXHAUSTED["cpu"] if len(x) > 2 else None)
    (_, saved), (*_, plain) = paint(small, task), generate(model, task)
    assert apart(saved, plain) <= 1
