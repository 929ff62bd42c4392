"""Tiles join to the whole, and a sparing model answers as the whole one does."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.models.sparing import Sparing, ramp, starts, tiled
from modules.tasks import TextToImage


@pytest.mark.parametrize("length", [1, 31, 32, 33, 60, 64, 65, 200])
def test_tiles_cover_everything_and_overlap(length):
    begins = starts(length, 32, 8)
    covered = {place for begin in begins for place in range(begin, min(length, begin + 32))}
    assert covered == set(range(length))
    assert all(0 < b - a <= 24 for a, b in pairwise(begins))


def test_a_ramp_in_numbers():
    assert ramp(7, 2).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 1 / 3])
    assert ramp(3, 0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("size", [(32, 32), (50, 33), (100, 64), (9, 70)])
def test_tiles_of_a_local_decoder_join_to_the_whole(size):
    def decode(latents):
        return torch.nn.functional.interpolate(latents[:, :3].sin(), scale_factor=4)

    latents = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(tiled(decode, latents, 32, 8), decode(latents))


def test_what_looks_across_a_seam_changes_little_and_smoothly():
    blur = torch.nn.AvgPool2d(5, stride=1, padding=2, count_include_pad=False)
    latents = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    apart = (tiled(blur, latents, 32, 8) - blur(latents)).abs()
    assert apart.max() < 0.3
    assert apart[..., 4:24, 4:24].max() < 1e-6  # where only one tile is, it is the whole


def test_conditions_one_after_another_answer_as_together(tiny_folder):
    model = load(card_for_folder(tiny_folder), "cpu", "float32")
    sizes = []
    model.unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    found = model.conditions(TextToImage(prompt="a red cat"))
    conditions = [found.weighted[0][0], found.base]
    x = torch.randn(4, *model.latent_shape(128, 128), generator=torch.Generator().manual_seed(0))
    whole, sparing = (one.predict(x, 500.0, conditions) for one in (model, Sparing(model)))
    torch.testing.assert_close(sparing, whole, rtol=1e-4, atol=1e-5)
    assert sizes == [4, 2, 2]
    assert Sparing(model).factor == model.factor
    assert Sparing(dataclasses.replace(model)).hash == model.hash
