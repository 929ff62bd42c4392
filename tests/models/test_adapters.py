"""A model wears what a prompt asks for, during one job; then every weight and every answer is as before."""

import dataclasses
import hashlib
from contextlib import closing

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modules.engine.generation import generate
from modules.models.adapters import dressing, encoders, undressed_after
from modules.models.catalog import card_for_folder
from modules.models.files import LoadError
from modules.models.loading import load
from modules.models.wardrobe import Wardrobe, short_hash
from modules.tasks import TaskError, TextToImage
from tests.tiny import write_tiny_sdxl, write_tiny_stable_diffusion


def task(prompt="a red cat", **how):
    settings = {"steps": 3, "sampler": "DDIM", "schedule": "default", "seed": 7, "width": 128, "height": 128}
    return TextToImage(prompt=prompt, **settings | how)


def painted(model, asked):
    with undressed_after(model):
        *steps, result = generate(model, asked)
    return steps[-1].latents, result.info


def weights(model):
    """One hash over every weight of a model, and how many hooks hang on it."""
    found, hooks = hashlib.sha256(), 0
    for network in (model.unet, model.autoencoder, *(encoder.network for encoder in encoders(model))):
        for value in network.state_dict().values():
            found.update(value.numpy().tobytes())
        for layer in network.modules():
            hooks += len(layer._forward_hooks) + len(layer._forward_pre_hooks)
    return found.hexdigest(), hooks


def write_lora(path, networks, seed=0, alpha=2.0, wanted=(nn.Linear, nn.Conv2d), unless=()):
    """A random LoRA in kohya's format for all layers of some networks, and the changes to their weights."""
    source, tensors, deltas = torch.Generator().manual_seed(seed), {}, {}
    for prefix, network in networks.items():
        for name, layer in network.named_modules():
            if not isinstance(layer, wanted) or name.startswith(unless):
                continue
            shape = layer.weight.shape
            down = torch.randn(2, *shape[1:], generator=source) / 8
            up = torch.randn(shape[0], 2, *[1] * (len(shape) - 2), generator=source) / 8
            text = "text_model_" if prefix != "unet" and not name.startswith("text_model") else ""
            flat = f"lora_{prefix}_{text}{name.replace('.', '_')}"
            tensors |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
            tensors[f"{flat}.alpha"] = torch.tensor(alpha)
            deltas[prefix, name] = alpha / 2 * (up.flatten(1) @ down.flatten(1)).reshape(shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return deltas


def add(networks, deltas, share):
    for (prefix, name), delta in deltas.items():
        networks[prefix].get_submodule(name).weight.data += share * delta


@pytest.fixture(scope="module")
def pocket(tiny_folder):
    return load(card_for_folder(tiny_folder), "cpu")


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory):
    return write_tiny_stable_diffusion(tmp_path_factory.mktemp("family") / "sd")


@pytest.fixture(scope="module")
def sd(sd_folder):
    return load(card_for_folder(sd_folder), "cpu")


def networks_of(model):
    return {"unet": model.unet, **{f"te{i or ''}": e.network for i, e in enumerate(encoders(model))}}


def test_loras_on_pocket_are_the_weights_plus_their_changes(pocket, tiny_folder, tmp_path):
    one = write_lora(tmp_path / "lora" / "one.safetensors", {"unet": pocket.unet})
    two = write_lora(tmp_path / "lora" / "deep" / "Two.safetensors", {"unet": pocket.unet}, seed=1)
    model = dressing(pocket, Wardrobe(tmp_path))
    before, plain = weights(model), painted(model, task())[0]
    latents, info = painted(model, task("a red cat <lora:one:0.5> <lora:two:-1>"))
    assert weights(model) == before
    assert before[1] == 0
    assert torch.equal(painted(model, task())[0], plain)

    other = load(card_for_folder(tiny_folder), "cpu")
    add({"unet": other.unet}, one, 0.5)
    add({"unet": other.unet}, two, -1)
    torch.testing.assert_close(latents, painted(other, task())[0], atol=1e-4, rtol=1e-4)
    assert (latents - plain).abs().max() > 0.01
    paths = [tmp_path / "lora" / "one.safetensors", tmp_path / "lora" / "deep" / "Two.safetensors"]
    hashes = [short_hash(path, whole=False) for path in paths]
    assert info["adapters"] == [
        {"kind": "lora", "name": "one", "weight": 0.5, "hash": hashes[0]},
        {"kind": "lora", "name": "Two", "weight": -1.0, "hash": hashes[1]},
    ]
    assert info["prompt"] == "a red cat <lora:one:0.5> <lora:two:-1>"


def test_text_encoders_wear_their_part(sd, sd_folder, tmp_path):
    deltas = write_lora(tmp_path / "lora" / "all.safetensors", networks_of(sd))
    assert {prefix for prefix, _ in deltas} == {"unet", "te"}
    model = dressing(sd, Wardrobe(tmp_path))
    before = weights(model)
    latents, info = painted(model, task("a red cat <lora:all:0.25:0.75>"))
    assert weights(model) == before
    other = load(card_for_folder(sd_folder), "cpu")
    add(networks_of(other), {key: delta for key, delta in deltas.items() if key[0] == "unet"}, 0.75)
    add(networks_of(other), {key: delta for key, delta in deltas.items() if key[0] == "te"}, 0.25)
    torch.testing.assert_close(latents, painted(other, task())[0], atol=1e-4, rtol=1e-4)
    assert info["adapters"][0] | {"hash": ""} == {
        "kind": "lora", "name": "all", "weight": 0.75, "text_weight": 0.25, "hash": "",
    }  # fmt: skip


def write_sd2(folder):
    return write_tiny_stable_diffusion(folder, "v_prediction", use_linear_projection=True)


def test_sd2_wears_a_lora_and_takes_it_off(tmp_path):
    """SD 2 predicts v, and has matrices where SD 1 has convolutions of one pixel; trainers save either."""
    folder = write_sd2(tmp_path / "sd2")
    base, other = (load(card_for_folder(folder), "cpu") for _ in range(2))
    path = tmp_path / "lora" / "all.safetensors"
    deltas = write_lora(path, networks_of(base), wanted=(nn.Linear,))
    tensors = load_file(path)
    square = {k: v[..., None, None] if ".lora_" in k and "_proj_" in k else v for k, v in tensors.items()}
    assert sum(one.ndim == 4 for one in square.values()) > 4
    save_file({name: value.contiguous() for name, value in square.items()}, path)
    model, before, plain = dressing(base, Wardrobe(tmp_path)), weights(base), painted(base, task())[0]
    latents, _ = painted(model, task("a red cat <lora:all:0.5>"))
    assert weights(base) == before
    assert torch.equal(painted(model, task())[0], plain)
    add(networks_of(other), deltas, 0.5)
    torch.testing.assert_close(latents, painted(other, task())[0], atol=1e-4, rtol=1e-4)
    assert (latents - plain).abs().max() > 0.01


@pytest.mark.parametrize("end", ["cancelled", "failed", "refused"])
def test_off_however_a_job_ends(pocket, tmp_path, end):
    write_lora(tmp_path / "lora" / "one.safetensors", {"unet": pocket.unet})
    write_lora(tmp_path / "lora" / "odd.safetensors", {"unet": nn.Sequential(nn.Linear(2, 2))})
    model = dressing(pocket, Wardrobe(tmp_path))
    before, plain = weights(model), painted(model, task())[0]
    with undressed_after(model):
        if end == "refused":
            with pytest.raises(
                LoadError, match="The LoRA odd does not fit tiny: tiny has no layer lora_unet_0"
            ):
                next(generate(model, task("<lora:one:1><lora:odd:1>")))
        else:
            with closing(generate(model, task("<lora:one:1>"))) as steps:
                next(steps)
                assert weights(model)[1] > 0
                if end == "failed":
                    with pytest.raises(ZeroDivisionError):
                        steps.throw(ZeroDivisionError)
    assert weights(model) == before
    assert torch.equal(painted(model, task())[0], plain)


def test_unknown_names_name_near_ones_and_pickles_are_refused(tiny_folder, tmp_path):
    wardrobe = Wardrobe(tmp_path)
    with pytest.raises(TaskError, match=r"asks for the LoRA 'x', but .*lora holds none"):
        wardrobe.check(task("<lora:x:1>"))
    with pytest.raises(TaskError, match="but there is no folder of adapters"):
        Wardrobe().check(task("<lora:x:1>"))
    (tmp_path / "lora").mkdir()
    for i in range(30):
        (tmp_path / "lora" / f"style-{i}.safetensors").touch()
    with pytest.raises(TaskError, match="'stile-7'; it must be one of 30, such as style-7"):
        wardrobe.check(task("<lora:stile-7:1>"))
    wardrobe.check(task("<lora:STYLE-7:1>"))
    flow = dataclasses.replace(card_for_folder(tiny_folder), title="Flow", family="flux")
    with pytest.raises(TaskError, match="Flow takes no LoRA or embedding here: take style-7 out"):
        wardrobe.check(task("<lora:style-7:1>"), flow)
    (tmp_path / "lora" / "old.pt").touch()
    with pytest.raises(TaskError, match=r"old\.pt is pickled, which can run any program when opened"):
        wardrobe.check(task("<lora:old:1>"))


@pytest.fixture
def library(tmp_path):
    """A wardrobe with embeddings for encoders 32 wide, one vector and three."""
    source = torch.Generator().manual_seed(3)
    (tmp_path / "embeddings").mkdir()
    save_file(
        {"emb_params": torch.randn(3, 32, generator=source)}, tmp_path / "embeddings" / "moody.safetensors"
    )
    save_file({"<toy>": torch.randn(32, generator=source)}, tmp_path / "embeddings" / "cat-toy.safetensors")
    save_file({"emb_params": torch.randn(1, 8)}, tmp_path / "embeddings" / "thin.safetensors")
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "embeddings" / "broken.safetensors")
    (tmp_path / "embeddings" / "pickled.pt").touch()
    return Wardrobe(tmp_path)


def test_embeddings_are_known_by_their_names_and_counted(library, tiny_folder):
    from modules.models.tokens import count_tokens

    assert library.lengths() == {"moody": 3, "<toy>": 1, "cat-toy": 1, "thin": 1}
    card = card_for_folder(tiny_folder)
    plain = count_tokens(card, "red cat").used
    assert count_tokens(card, "red Moody cat, <toy>", library.lengths()).used == plain + 3 + 1 + 1
    with pytest.raises(TaskError, match=r"pickled\.pt is pickled") as refusal:
        library.check(task("cat", negative_prompt="pickled"))
    assert refusal.value.field == "negative_prompt"
    with pytest.raises(TaskError, match=r"broken\.safetensors is damaged or no embedding"):
        library.check(task("a broken cat"))


@pytest.mark.parametrize("family", ["pocket", "sd"])
def test_vectors_of_words_are_those_words(request, family, library):
    """An embedding that holds the rows of "red cat" is "red cat", to the last bit, with a weight too."""
    model = dressing(request.getfixturevalue(family), library)
    (encoder,) = encoders(model)
    ids = encoder.tokenizer.encode("red cat", add_special_tokens=False).ids
    rows = encoder.network.get_input_embeddings().weight[ids]
    save_file({"emb_params": rows.contiguous()}, library.folder / "embeddings" / "words.safetensors")
    before = weights(model)
    for said, meant in (("a Words, star", "a red cat, star"), ("(words:1.3)", "(red cat:1.3)")):
        with undressed_after(model):
            found, expected = (model.conditions(task(text, negative_prompt=text)) for text in (said, meant))
        assert torch.equal(found.base.states, expected.base.states)
        assert torch.equal(found.weighted[0][0].states, expected.weighted[0][0].states)
        assert [each["name"] for each in found.record["adapters"]] == ["words"]
    plain = model.conditions(task("a moody star"))
    model.worn.close()
    bare = request.getfixturevalue(family).conditions(task("a moody star"))
    assert plain.weighted[0][0].states.shape == bare.weighted[0][0].states.shape
    assert not torch.equal(plain.weighted[0][0].states, bare.weighted[0][0].states)
    assert weights(model) == before


def test_an_embedding_of_another_family_is_a_sentence(pocket, library):
    model = dressing(pocket, library)
    with (
        undressed_after(model),
        pytest.raises(LoadError, match="embedding thin, whose vectors are 8 wide; tiny"),
    ):
        model.conditions(task("a thin cat"))
    assert weights(model)[1] == 0


def test_same_picture_as_stock_textual_inversion(sd, sd_folder, library):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from modules.engine.generation import noise

    asked = task("a red moody cat", negative_prompt="<toy>", steps=4, guidance_scale=4.0)
    latents, _ = painted(dressing(sd, library), asked)
    stock = StableDiffusionPipeline.from_pretrained(sd_folder, local_files_only=True, safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, set_alpha_to_one=True)
    stock.load_textual_inversion(str(library.embeddings()["moody"]), token="moody")
    stock.load_textual_inversion(str(library.embeddings()["<toy>"]))
    start = noise([torch.Generator().manual_seed(7)], sd.latent_shape(128, 128))
    theirs = stock(
        asked.prompt, negative_prompt=asked.negative_prompt, num_inference_steps=4, guidance_scale=4.0,
        latents=start, height=128, width=128, output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(latents, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("write", [write_tiny_stable_diffusion, write_sd2, write_tiny_sdxl])
def test_same_picture_as_stock_loras(write, tmp_path):
    """Needs peft, which the studio does not: then diffusers' own LoRA is the witness."""
    pytest.importorskip("peft")
    from diffusers import DDIMScheduler, DiffusionPipeline

    from modules.engine.generation import noise

    folder = write(tmp_path / "family")
    sd, wanted = load(card_for_folder(folder), "cpu"), (nn.Linear,)
    unless = ("add_embedding", "text_projection")  # which diffusers does not read under kohya's names
    networks = networks_of(sd)
    if len(encoders(sd)) == 2:
        networks = dict(zip(("unet", "te1", "te2"), networks.values(), strict=True))
    for i, name in enumerate(("one", "two")):
        path = tmp_path / "lora" / f"{name}.safetensors"
        write_lora(path, networks, seed=i, alpha=1.5, wanted=wanted, unless=unless)
    asked = task("a red cat <lora:one:0.8><lora:two:-0.4>", steps=4, guidance_scale=4.0)
    latents, _ = painted(dressing(sd, Wardrobe(tmp_path)), asked)
    stock = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config, set_alpha_to_one=True)
    for name in ("one", "two"):
        stock.load_lora_weights(tmp_path / "lora", weight_name=f"{name}.safetensors", adapter_name=name)
    stock.set_adapters(["one", "two"], [0.8, -0.4])
    start = noise([torch.Generator().manual_seed(7)], sd.latent_shape(128, 128))
    theirs = stock(
        "a red cat", num_inference_steps=4, guidance_scale=4.0, latents=start, height=128, width=128,
        output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(latents, theirs, atol=1e-4, rtol=1e-4)


def test_sdxl_wears_both_encoders_changes_and_pairs_of_vectors(tmp_path):
    folder = write_tiny_sdxl(tmp_path / "xl")
    base, other = (load(card_for_folder(folder), "cpu") for _ in range(2))
    first, second = (encoder.network for encoder in encoders(base))
    networks = {"unet": base.unet, "te1": first, "te2": second}
    linear = (nn.Linear,)
    deltas = write_lora(tmp_path / "lora" / "all.safetensors", networks, wanted=linear)
    assert {prefix for prefix, _ in deltas} == {"unet", "te1", "te2"}
    ids = encoders(base)[0].tokenizer.encode("red", add_special_tokens=False).ids
    rows = [network.get_input_embeddings().weight[ids].contiguous() for network in (first, second)]
    (tmp_path / "embeddings").mkdir()
    pair = {"clip_l": rows[0], "clip_g": rows[1]}
    save_file(pair, tmp_path / "embeddings" / "words.safetensors")
    plain = painted(base, task("a red cat"))[0]  # transformers hangs hooks of its own on first use
    model, before = dressing(base, Wardrobe(tmp_path)), weights(base)
    latents, info = painted(model, task("a words cat <lora:all:0.5>"))
    assert (latents - plain).abs().max() > 1e-3
    assert weights(base) == before
    assert [each["name"] for each in info["adapters"]] == ["all", "words"]
    one, two = (encoder.network for encoder in encoders(other))
    add({"unet": other.unet, "te1": one, "te2": two}, deltas, 0.5)
    torch.testing.assert_close(latents, painted(other, task("a red cat"))[0], atol=1e-4, rtol=1e-4)
