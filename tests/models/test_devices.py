"""What a machine has decides the device, the precision, and whether a model is loaded whole."""

import dataclasses
import json
import types

import pytest
import torch
from safetensors.torch import save_file

from modules.engine.studio import what_runs_where
from modules.models import devices, offload
from modules.models.catalog import card_for_folder
from modules.models.devices import check_room, choose_device, choose_dtype, has_bfloat16, parameters, remark
from modules.models.files import LoadError
from modules.models.loading import load
from modules.models.parts import networks, weight_bytes

CPU, CUDA, MPS, XPU = (torch.device(name) for name in ("cpu", "cuda", "mps", "xpu"))


@pytest.fixture
def card(tiny_folder):
    return card_for_folder(tiny_folder)


@pytest.fixture
def capable(monkeypatch):
    """Sets whether this CPU has bfloat16."""

    def set(there):
        monkeypatch.setattr(devices, "has_bfloat16", lambda: there)

    return set


def test_devices_that_are_not_there_are_sentences():
    with pytest.raises(LoadError, match="device is 'cuda:77'"):
        choose_device("cuda:77")
    assert choose_device("cpu") == CPU
    assert choose_device().type in ("cpu", "cuda", "mps", "xpu")


def test_gpus_take_half_and_models_that_overflow_in_it_bfloat16(card):
    for device in (CUDA, MPS, XPU):
        assert choose_dtype("auto", device, card) == choose_dtype("auto", device) == torch.float16
        wide = dataclasses.replace(card, memory={"bfloat16": 36, "float32": 70})
        assert choose_dtype("auto", device, wide) == torch.bfloat16
        assert choose_dtype("float32", device, wide) == torch.float32


def test_a_cpu_takes_bfloat16_only_of_its_own_and_for_large_models(card, capable, monkeypatch):
    with pytest.raises(LoadError, match="use float32 or bfloat16"):
        choose_dtype("float16", CPU)
    for there in (True, False):
        capable(there)
        assert choose_dtype("auto", CPU, card) == choose_dtype("auto", CPU) == torch.float32
        assert choose_dtype("bfloat16", CPU, card) == torch.bfloat16
    monkeypatch.setattr(devices, "LARGE", 1000)
    capable(True)
    assert choose_dtype("auto", CPU, card) == torch.bfloat16
    capable(False)
    assert choose_dtype("auto", CPU, card) == torch.float32


def test_imitated_bfloat16_is_told_in_one_sentence(card, capable):
    capable(True)
    assert remark(CPU, torch.bfloat16) == ""
    capable(False)
    assert "many times slower than float32" in remark(CPU, torch.bfloat16)
    assert remark(CPU, torch.float32) == remark(CUDA, torch.bfloat16) == ""
    assert "imitates it" in what_runs_where(load(card, "cpu", "bfloat16"))


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512_bf16 sse\n", True),
        ("flags : fpu avx2 amx_tile amx_bf16\n", True),
        ("processor : 0\nFeatures : fp asimd bf16 i8mm\n", True),
        ("flags : fpu avx2 avx512f avx512bw\nbugs : bf16\n", False),
        ("", False),
    ],
)
def test_the_cpus_own_account_is_read(text, there, tmp_path, monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    assert has_bfloat16.__wrapped__() == there
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "none")
    assert not has_bfloat16.__wrapped__()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert has_bfloat16.__wrapped__()


def test_the_numbers_of_a_model_are_counted_without_reading_them(card, tiny_folder, tmp_path):
    model = load(card, "cpu", "float32")
    own = sum(value.numel() for network in networks(model).values() for value in network.parameters())
    assert own <= parameters(card) <= 1.1 * own  # buffers, classes and what is not used are there too
    assert weight_bytes(model) == 4 * own
    for name in ("w.safetensors", "w.fp16.safetensors", "w.non_ema.safetensors"):
        save_file({"a": torch.zeros(3, 5), "b": torch.zeros(2)}, tmp_path / name)
    assert parameters(dataclasses.replace(card, folder=tmp_path)) == 17
    assert parameters(dataclasses.replace(card, folder=tmp_path / "w.safetensors")) == 17
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "y.safetensors").write_bytes((9).to_bytes(8, "little") + json.dumps([1, 2, 3]).encode())
    assert parameters(dataclasses.replace(card, folder=tmp_path)) == 17


def test_a_model_that_would_fill_the_memory_is_refused(card, monkeypatch):
    monkeypatch.setattr(devices.memory, "free", lambda device: 100_000)
    monkeypatch.setattr(devices.memory, "swap", lambda: 0)
    with pytest.raises(LoadError, match=r"needs 0\.0 GB for its weights in float32.*choose a smaller model"):
        load(card, "cpu", "float32")
    check_room(card, CUDA, torch.float32)
    monkeypatch.setattr(devices.memory, "swap", lambda: 10**9)
    check_room(card, CPU, torch.float32)
    monkeypatch.setattr(devices.memory, "free", lambda device: None)
    check_room(card, CPU, torch.float32)


@pytest.mark.parametrize(
    ("weights", "working", "there", "way"),
    [
        (4e9, 2e9, 8e9, offload.TOGETHER),
        (4e9, 2e9, 6e9, offload.TOGETHER),
        (10e9, 2e9, 11e9, offload.BY_PARTS),
        (10e9, 2e9, 8e9, offload.BY_LAYERS),
    ],
)
def test_the_quickest_way_that_fits_is_chosen(weights, working, there, way):
    assert offload.choose(weights, working, there) == way


def test_the_plan_asks_the_device_and_the_card(card, monkeypatch):
    there = []
    monkeypatch.setattr(offload.memory, "free", lambda device: there[0])
    monkeypatch.setattr(offload, "parameters", lambda card: 10**9)
    known = dataclasses.replace(card, memory={"float16": 5})
    for bytes, one, way in (
        (5e9, known, offload.TOGETHER),
        (4.9e9, known, offload.BY_PARTS),
        (3e9, card, offload.TOGETHER),
        (2.9e9, card, offload.BY_PARTS),
        (2e9, card, offload.BY_LAYERS),
        (None, card, offload.TOGETHER),
    ):
        there[:] = [bytes]
        assert offload.plan(one, CUDA, torch.float16) == way
    there[:] = [0]
    assert (
        offload.plan(card, CPU, torch.float32) == offload.plan(card, MPS, torch.float16) == offload.TOGETHER
    )


@pytest.mark.parametrize("way", [offload.BY_PARTS, offload.BY_LAYERS])
def test_a_model_that_comes_over_by_parts_paints_the_same(way, card):
    """With the CPU in the part of the GPU: the hooks run, only the distance is missing."""
    from modules.tasks import TextToImage

    whole, apart = load(card, "cpu", "float32"), load(card, "cpu", "float32")
    apart = offload.offloaded(apart, CPU, way)
    assert offload.told(whole) == ""
    assert offload.told(apart) == offload.TOLD[way]
    from modules.engine.generation import generate

    task = TextToImage(prompt="a red cat", steps=2, seed=1, width=64, height=64, batch_size=2, model="tiny")
    (*_, one), (*_, other) = generate(whole, task), generate(apart, task)
    assert [a.tobytes() for a in one.images] == [b.tobytes() for b in other.images]


def test_a_model_on_its_device_as_a_whole_is_left_alone():
    model = types.SimpleNamespace()
    assert offload.offloaded(model, CUDA, offload.TOGETHER) is model
