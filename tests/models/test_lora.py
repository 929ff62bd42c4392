"""LoRA: every file format means one change, a change is what its formula says, and taking off is exact."""

from contextlib import ExitStack

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

from modules.models.files import LoadError
from modules.models.lora import from_tensors, put_on, read_file
from modules.models.lora_names import layers_of, original_names, split

RANK = 3
TINY = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "norm_num_groups": 4,
    "block_out_channels": (8, 16), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 12, "attention_head_dim": 2,
}  # fmt: skip
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"


@pytest.fixture(scope="module")
def unet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(**TINY).eval().requires_grad_(False)


@pytest.fixture
def source():
    return torch.Generator().manual_seed(1)


def layers(unet):
    return {name: layer for name, layer in unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}


def pair(layer, source, rank=RANK):
    """A random (up, down) for a layer, as trainers save them: a convolution's down is one, its up 1 x 1."""
    shape = layer.weight.shape
    down = torch.randn(rank, *shape[1:], generator=source) / 4
    return torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=source) / 4, down


def product(up, down):
    return (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def answer(unet):
    source = torch.Generator().manual_seed(2)
    x, states = torch.randn(2, 4, 8, 8, generator=source), torch.randn(2, 5, 12, generator=source)
    with torch.no_grad():
        return unet(x, torch.tensor(300.0), states).sample


def merged(unet, deltas):
    """What the network says once the deltas are added to its weights; they are put back."""
    before = {name: layer.weight.data.clone() for name, layer in layers(unet).items()}
    for name, delta in deltas.items():
        layers(unet)[name].weight.data += delta
    said = answer(unet)
    for name, layer in layers(unet).items():
        layer.weight.data.copy_(before[name])
    return said


def worn(unet, *given, weights=(1.0,), metadata=None):
    with ExitStack() as stack:
        for i, (tensors, weight) in enumerate(zip(given, weights, strict=True)):
            lora = from_tensors(f"lora {i}", tensors, metadata or {})
            put_on(lora, {"unet": unet}, {"unet": weight}, "Tiny", stack)
        return answer(unet)


def kohya(name, up, down, alpha):
    flat = f"lora_unet_{name.replace('.', '_')}"
    return {f"{flat}.lora_up.weight": up, f"{flat}.lora_down.weight": down, f"{flat}.alpha": alpha}


def peft(name, up, down, alpha):
    return {f"unet.{name}.lora_A.weight": down * alpha / RANK, f"unet.{name}.lora_B.weight": up}


def old(name, up, down, alpha):
    assert ".attn" in name
    name = name.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
    scaled = down * alpha / RANK
    return {f"unet.{name}_lora.down.weight": scaled, f"unet.{name}_lora.up.weight": up}


def comfy(name, up, down, alpha):
    return {
        f"diffusion_model.{name}.lora_up.weight": up,
        f"diffusion_model.{name}.lora_down.weight": down,
        f"diffusion_model.{name}.alpha": alpha,
    }


@pytest.mark.parametrize("form", [kohya, peft, old, comfy])
def test_every_format_is_the_product_added_to_the_weight(unet, source, form):
    names = [name for name in layers(unet) if form is not old or ".attn" in name]
    assert len(names) > 20
    pairs = {name: pair(layers(unet)[name], source) for name in names}
    alpha = torch.tensor(2.0)
    tensors = {key: value for name in names for key, value in form(name, *pairs[name], alpha).items()}
    deltas = {name: 0.7 * 2 / RANK * product(*pairs[name]) for name in names}
    before = answer(unet)
    said = worn(unet, tensors, weights=[0.7])
    torch.testing.assert_close(said, merged(unet, deltas), atol=1e-5, rtol=1e-5)
    assert (said - before).abs().max() > 0.1
    assert torch.equal(answer(unet), before)


def test_several_add_up_and_weight_0_is_nothing(unet, source):
    name = f"{ATTENTION}.to_k"
    pairs = [pair(layers(unet)[name], source) for _ in range(3)]
    given = [kohya(name, *each, torch.tensor(float(RANK))) for each in pairs]
    deltas = {name: product(*pairs[0]) - 0.5 * product(*pairs[1])}
    said = worn(unet, *given, weights=[1, -0.5, 0])
    torch.testing.assert_close(said, merged(unet, deltas), atol=1e-5, rtol=1e-5)
    assert torch.equal(worn(unet, given[0], weights=[0]), answer(unet))


def test_original_names_of_blocks_mean_the_same_layers(unet, source):
    names = dict(original_names(unet))
    said = {}
    for path, layer in layers(unet).items():
        prefix = max((name for name in names if path == name or path.startswith(name + ".")), key=len)
        theirs = names[prefix] + path.removeprefix(prefix)
        said |= kohya(theirs, *pair(layer, torch.Generator().manual_seed(len(path))), torch.tensor(3.0))
    ours = {
        key: value
        for path, layer in layers(unet).items()
        for key, value in kohya(
            path, *pair(layer, torch.Generator().manual_seed(len(path))), torch.tensor(3.0)
        ).items()
    }
    assert torch.equal(worn(unet, said), worn(unet, ours))


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_original_names_agree_with_diffusers_converter(family):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    small = {"cross_attention_dim": 8, "attention_head_dim": 2, "norm_num_groups": 4}
    wide = {
        "sd1": {"block_out_channels": (8, 8, 16, 16)},
        "sdxl": {
            "block_out_channels": (8, 16, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 3),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 20,
        },
    }[family]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**small, **wide)
    names, ours = dict(original_names(unet)), layers(unet)
    theirs = {}
    for path in ours:
        prefix = max((name for name in names if path == name or path.startswith(name + ".")), key=len)
        theirs[names[prefix] + path.removeprefix(prefix) + ".weight"] = path
    assert len(theirs) == len(ours)
    checkpoint = {f"model.diffusion_model.{name}": torch.tensor(i) for i, name in enumerate(theirs)}
    biases = {name.removesuffix("weight") + "bias": torch.tensor(-1) for name in checkpoint}
    converted = convert_ldm_unet_checkpoint(checkpoint | biases, dict(unet.config))
    found = {path.removesuffix(".weight"): int(i) for path, i in converted.items()}
    expected = {path: i for i, path in enumerate(theirs.values())}
    assert {path: found[path] for path in expected} == expected


def test_the_names_of_upsamplers_count_what_stands_before_them():
    """As in the authors' checkpoints; diffusers' converter takes any."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(8, 8, 16, 16), norm_num_groups=4, attention_head_dim=2
        )
    found = {ours: theirs for ours, theirs in original_names(unet) if "upsamplers" in ours}
    assert [*found.values()][:3] == ["output_blocks.2.1", "output_blocks.5.2", "output_blocks.8.2"]


def test_locon_with_a_middle_is_three_convolutions(unet, source):
    name = "down_blocks.0.resnets.0.conv1"
    shape = layers(unet)[name].weight.shape
    up, middle, down = (
        torch.randn(size, generator=source) / 4
        for size in ((shape[0], 2, 1, 1), (2, 3, *shape[2:]), (3, shape[1], 1, 1))
    )
    flat = f"lora_unet_{name.replace('.', '_')}"
    tensors = {
        f"{flat}.lora_up.weight": up,
        f"{flat}.lora_mid.weight": middle,
        f"{flat}.lora_down.weight": down,
    }
    delta = torch.einsum("or,rskl,si->oikl", up[..., 0, 0], middle, down[..., 0, 0])
    torch.testing.assert_close(worn(unet, tensors), merged(unet, {name: delta}), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [f"{ATTENTION}.to_q", "mid_block.resnets.0.conv2"])
@pytest.mark.parametrize("form", ["rows", "columns", "peft"])
def test_dora_sets_the_lengths(unet, source, name, form):
    """Rows (or columns) of the changed weight have the lengths that the file says; a weight walks there."""
    layer = layers(unet)[name]
    up, down = pair(layer, source)
    axes = tuple(range(1, layer.weight.ndim)) if form != "columns" else (0, *range(2, layer.weight.ndim))
    changed = layer.weight + product(up, down)
    lengths = changed.square().sum(dim=axes, keepdim=True).sqrt()
    wanted = torch.rand(lengths.shape, generator=source) + 1
    tensors = peft(name, up, down, RANK)
    if form == "peft":
        tensors[f"unet.{name}.lora_magnitude_vector"] = wanted.flatten()
    else:
        tensors[f"unet.{name}.dora_scale"] = wanted
    target = wanted * changed / lengths
    torch.testing.assert_close(
        worn(unet, tensors, weights=[0.5]),
        merged(unet, {name: 0.5 * (target - layer.weight)}), atol=1e-5, rtol=1e-5,
    )  # fmt: skip


CONVOLUTION = "mid_block.resnets.0.conv2"  # 16 x 16 x 3 x 3


def drawn(source, **shapes):
    return {name: torch.randn(shape, generator=source) / 2 for name, shape in shapes.items()}


@pytest.mark.parametrize("form", ["linear", "convolution", "tucker"])
def test_loha_is_two_products_multiplied_number_by_number(unet, source, form):
    name = f"{ATTENTION}.to_k" if form == "linear" else CONVOLUTION
    out, into, *kernel = layers(unet)[name].weight.shape
    a, b = (
        ((RANK, out), (RANK, into)) if form == "tucker" else ((out, RANK), (RANK, into * 9 ** (kernel != [])))
    )
    held = drawn(source, hada_w1_a=a, hada_w1_b=b, hada_w2_a=a, hada_w2_b=b)
    if form == "tucker":
        held |= drawn(source, hada_t1=(RANK, RANK, 3, 3), hada_t2=(RANK, RANK, 3, 3))
        one, other = (
            sum(
                held[f"hada_t{i}"][r, s] * held[f"hada_w{i}_a"][r][:, None, None, None]
                * held[f"hada_w{i}_b"][s][None, :, None, None]
                for r in range(RANK) for s in range(RANK)
            )
            for i in (1, 2)
        )  # fmt: skip
    else:
        one, other = (held[f"hada_w{i}_a"] @ held[f"hada_w{i}_b"] for i in (1, 2))
    delta = 2.0 / RANK * (one * other).reshape(layers(unet)[name].weight.shape)
    assert_worn(unet, name, held, alpha=2.0, delta=delta)


@pytest.mark.parametrize("form", ["linear", "low ranks", "convolution", "low rank convolution", "tucker"])
def test_lokr_is_a_kronecker_product(unet, source, form):
    name = f"{ATTENTION}.to_k" if form in ("linear", "low ranks") else CONVOLUTION  # 8 x 12, or 16 x 16
    small = (2, 3) if name != CONVOLUTION else (2, 4)
    weight = layers(unet)[name].weight
    large = (weight.shape[0] // small[0], weight.shape[1] // small[1])
    held, w1, scale = drawn(source, lokr_w1=small), None, 1.0
    if form == "low ranks":
        held = drawn(source, lokr_w1_a=(small[0], RANK), lokr_w1_b=(RANK, small[1]))
        w1 = held["lokr_w1_a"] @ held["lokr_w1_b"]
    if form in ("linear", "convolution"):
        held |= drawn(source, lokr_w2=(*large, *weight.shape[2:]))
        w2 = held["lokr_w2"]
    else:
        scale = 2.0 / RANK
        a, b = (large[0], RANK), (RANK, large[1] * weight[0, 0].numel())
        if form == "tucker":
            held |= drawn(source, lokr_t2=(RANK, RANK, 3, 3), lokr_w2_a=a[::-1], lokr_w2_b=(RANK, large[1]))
            w2 = torch.einsum("rskl,ro,si->oikl", held["lokr_t2"], held["lokr_w2_a"], held["lokr_w2_b"])
        else:
            held |= drawn(source, lokr_w2_a=a, lokr_w2_b=b)
            w2 = (held["lokr_w2_a"] @ held["lokr_w2_b"]).reshape(*large, *weight.shape[2:])
    w1 = held["lokr_w1"] if w1 is None else w1
    blocks = [torch.cat([w1[i, j] * w2 for j in range(small[1])], dim=1) for i in range(small[0])]
    assert_worn(unet, name, held, alpha=2.0, delta=scale * torch.cat(blocks))


def assert_worn(unet, name, held, alpha, delta):
    """A layer under these tensors answers as with the delta in its weight, and afterwards as before."""
    flat, before = f"lora_unet_{name.replace('.', '_')}", answer(unet)
    tensors = {f"{flat}.{part}": value for part, value in held.items()} | {
        f"{flat}.alpha": torch.tensor(alpha)
    }
    said = worn(unet, tensors, weights=[0.7])
    torch.testing.assert_close(said, merged(unet, {name: 0.7 * delta}), atol=1e-5, rtol=1e-5)
    assert (said - before).abs().max() > 1e-3
    assert torch.equal(answer(unet), before)
    other = {key.replace(flat, "lora_unet_conv_in"): value for key, value in tensors.items()}
    with pytest.raises(LoadError, match="another size here"):
        worn(unet, other)


def test_whole_differences_and_biases(unet, source):
    name = "mid_block.resnets.0.conv1"
    layer = layers(unet)[name]
    difference = torch.randn(layer.weight.shape, generator=source) / 4
    bias = torch.randn(len(difference), generator=source)
    flat = f"lora_unet_{name.replace('.', '_')}"
    said = worn(unet, {f"{flat}.diff": difference, f"{flat}.diff_b": bias}, weights=[0.5])
    kept = layer.bias.data.clone()
    layer.bias.data += 0.5 * bias
    expected = merged(unet, {name: 0.5 * difference})
    layer.bias.data.copy_(kept)
    torch.testing.assert_close(said, expected, atol=1e-5, rtol=1e-5)


def test_alphas_noted_by_diffusers_count(unet, source):
    to_q, to_k = f"{ATTENTION}.to_q", f"{ATTENTION}.to_k"
    pairs = {name: pair(layers(unet)[name], source) for name in (to_q, to_k)}
    tensors = {key: value for name in pairs for key, value in peft(name, *pairs[name], RANK).items()}
    noted = '{"unet.r": 3, "unet.lora_alpha": 6, "unet.alpha_pattern": {"attn2.to_k": 12}}'
    deltas = {to_q: 2 * product(*pairs[to_q]), to_k: 4 * product(*pairs[to_k])}
    said = worn(unet, tensors, metadata={"lora_adapter_metadata": noted})
    torch.testing.assert_close(said, merged(unet, deltas), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("lora_unet_mid_block_x.oft_blocks", "is an OFT, which this studio cannot use"),
        ("lora_unet_conv_in.hada_w1_a", "is damaged: its layer lora_unet_conv_in is not whole"),
        ("lora_unet_conv_in.lokr_w1", "is damaged: its layer lora_unet_conv_in is not whole"),
        ("text_model.embeddings.weight", "is no LoRA that this studio knows: it holds text_model"),
        ("lora_transformer_x.lora_up.weight", "for a transformer"),
        ("lora_unet_conv_in.lora_up.weight", "is damaged: its layer lora_unet_conv_in is not whole"),
    ],
)
def test_other_files_are_sentences(key, sentence):
    with pytest.raises(LoadError, match=sentence):
        from_tensors("odd", {key: torch.zeros(2, 2)}, {})
    with pytest.raises(LoadError, match="the file is empty"):
        from_tensors("odd", {}, {})


def test_another_family_is_a_sentence_and_nothing_is_changed(unet, source):
    before = answer(unet)
    good = kohya("conv_in", *pair(unet.conv_in, source), torch.tensor(1.0))
    layer = unet.get_submodule(f"{ATTENTION}.to_k")
    up, down = pair(layer, source)
    for bad, why in (
        (
            kohya("down_blocks.7.to_q", up, down, torch.tensor(1.0)),
            "Tiny has no layer lora_unet_down_blocks_7",
        ),
        (kohya(f"{ATTENTION}.to_k", up, down[:, :5], torch.tensor(1.0)), "_to_k is 8 x 12 there and another"),
        ({"lora_te2_x.lora_up.weight": up, "lora_te2_x.lora_down.weight": down}, "no layer lora_te2_x"),
    ):
        with pytest.raises(LoadError, match=why):
            worn(unet, good | bad)
        assert torch.equal(answer(unet), before)


def test_taken_off_whatever_happens(unet, source):
    tensors = kohya("conv_in", *pair(unet.conv_in, source), torch.tensor(1.0))
    before = answer(unet)
    lora = from_tensors("a", tensors, {})
    stack = ExitStack()
    put_on(lora, {"unet": unet}, {"unet": 1.0}, "Tiny", stack)
    assert not torch.equal(answer(unet), before)
    assert stack.__exit__(ValueError, ValueError(), None) is False
    assert torch.equal(answer(unet), before)


def test_files_are_read_or_refused(tmp_path):
    save_file({"a.alpha": torch.ones(())}, tmp_path / "good.safetensors", {"note": "yes"})
    tensors, notes = read_file(tmp_path / "good.safetensors")
    assert (list(tensors), notes) == (["a.alpha"], {"note": "yes"})
    (tmp_path / "bad.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:-1])
    with pytest.raises(LoadError, match=r"bad\.safetensors is damaged"):
        read_file(tmp_path / "bad.safetensors")
    with pytest.raises(LoadError, match="is not there any more"):
        read_file(tmp_path / "none.safetensors")


def test_names_of_text_encoders():
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        clip = CLIPTextModel(CLIPTextConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2))
    from modules.models.lora_names import place

    expected = ("text_encoder", "encoder_layers_1_self_attn_q_proj")
    for name in (
        "lora_te_text_model_encoder_layers_1_self_attn_q_proj.lora_up.weight",
        "lora_te1_text_model_encoder_layers_1_self_attn_q_proj.lora_up.weight",
        "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_B.weight",
        "text_encoder.text_model.encoder.layers.1.self_attn.q_proj.lora_linear_layer.up.weight",
        "text_encoder.text_model.encoder.layers.1.self_attn.to_q_lora.up.weight",
    ):
        layer, part = split(name)
        assert (place(layer), part) == (expected, "up")
    assert expected[1] in layers_of(clip, "text_encoder")
    assert place("lora_te2_text_model_encoder_layers_0_mlp_fc1")[0] == "text_encoder_2"
