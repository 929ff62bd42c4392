"""A recipe becomes a script of plain diffusers here, which makes the same picture without this app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

import modules
from modules.conditions.emphasis import parse, plain
from modules.diffusion.noise import NoiseSchedule
from modules.diffusion.samplers import SAMPLERS, SPACINGS
from modules.diffusion.schedule import Walk, make_scheduler
from modules.models.catalog import ModelCard
from modules.models.tokens import count_tokens
from modules.tasks import ClassConditional, TextToImage


class ScriptError(ValueError):
    """A picture that plain diffusers cannot make; the message is a sentence for the user."""


CLEAN_END = "scheduler.sigmas[-1] = 1e-4  # diffusers would end at a level that is not clean"
MOTION = """\
# The noise is one Brownian motion, drawn on the CPU from the picture's own generator.
seed_of_motion = int(torch.randint(2**63 - 1, (), generator=generator))
scheduler.noise_sampler = BrownianTreeNoiseSampler(
    torch.zeros_like(latents), 0.0, 1.01 * scheduler.sigmas.max().item(), [seed_of_motion]
)"""
BROWNIAN = "from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler"
PLAIN = {  # for samplers that this app corrects: diffusers' own class, and what is mended after its start
    "DDIM": ("DDIMScheduler", ""),
    "PNDM": ("PNDMScheduler", ""),
    "LMS": ("LMSDiscreteScheduler", ""),
    "DEIS": ("DEISMultistepScheduler", CLEAN_END),
    "SA-Solver": ("SASolverScheduler", CLEAN_END),
    "DPM++ SDE": ("DPMSolverSDEScheduler", MOTION),
}
STRIDES = ("DDIM", "PNDM")  # diffusers' own step by a whole number of timesteps
SAME = 1e-4  # levels whose ratios differ by a smaller share than this are one
GRID = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_train_timesteps": 1000}
LIBRARIES = ("diffusers", "torch", "transformers")

SCRIPT = Template('''\
"""Paints what Epsilon Studio $version painted, with diffusers and without the studio.

Made with $libraries, on $device in $dtype.
Other versions and other devices may change the picture a little. Run it in the studio's folder, or say where
that is:  python paint.py /path/to/epsilon-studio
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import $scheduler
$imports
from PIL import Image

home = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
device, dtype = "$device", torch.$dtype
seed, width, height, steps = $seed, $width, $height, $steps
$family

# What the network is asked at every step, and how much each answer counts: scale for every condition, and
# for the base what is left of 1, so that eps = base + scale * (condition - base).
asked = [
$asked
]

# The training timesteps that the network is told, call by call: fractional where the spacing is.
timesteps = [
$timesteps
]

generator = torch.Generator("cpu").manual_seed(seed)
latents = torch.randn((1, unet.config.in_channels, height // factor, width // factor), generator=generator)
$variation
scheduler = $scheduler(
$config
)
scheduler.set_timesteps(steps)
$levels
latents = latents * $scale  # the scale that the scheduler keeps
$mended

with torch.no_grad():
    states = torch.cat([state for state, _ in asked]).to(device, dtype)
    for timestep, told in zip(scheduler.timesteps, timesteps):
        x = scheduler.scale_model_input(latents, timestep)
        seen = torch.cat([x] * len(asked)).to(device, dtype)
        answers = unet(seen, torch.tensor(told, device=device), states).sample.float().cpu()
        eps = sum(answer * share for answer, (_, share) in zip(answers.split(1), asked))
        latents = scheduler.step(eps, timestep, latents$noise).prev_sample
    pixels = vae.decode((latents / vae.config.scaling_factor).to(device, vae.dtype)).sample

eight_bit = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
picture = Image.fromarray(eight_bit[0].permute(1, 2, 0).numpy())
picture.save("picture.png")
''')

POCKET = Template('''\
from diffusers import AutoencoderDC, UNet2DConditionModel
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel


def weights(folder):
    """The tensors of a component; the largest are stored in pieces, "name::0", "name::1" and so on."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    for name in sorted({key.split("::")[0] for key in found if "::" in key}):
        count = sum(key.startswith(name + "::") for key in found)
        found[name] = torch.cat([found.pop(f"{name}::{i}") for i in range(count)])
    return found


def load(kind, folder, dtype):
    """A network of diffusers from a folder of the model."""
    config = json.loads((folder / "config.json").read_text())
    network = kind.from_config({key: value for key, value in config.items() if key[0] != "_"})
    network.load_state_dict(weights(folder))
    return network.to(device, dtype).eval()


unet = load(UNet2DConditionModel, home / $unet, dtype)
vae = load(AutoencoderDC, home / $vae, torch.$vae_dtype)
factor = vae.spatial_compression_ratio
bert = BertModel(BertConfig.from_json_file(home / $text_encoder / "config.json"), add_pooling_layer=False)
words = {key: value.float() for key, value in weights(home / $text_encoder).items()}
bert.load_state_dict(words, strict=False)  # the pooler is not needed
bert = bert.to(device).eval()
tokenizer = Tokenizer.from_file(str(home / $tokenizer / "tokenizer.json"))
tokenizer.no_truncation()
tokenizer.no_padding()
class_names = json.loads((home / $class_embedding / "classes.json").read_text())
class_tokens = load_file(home / $class_embedding / "class_embedding.safetensors")["weight"]


@torch.no_grad()
def condition(words, class_name=None):
    """What the network is told: the words' states, 32 of them, and one token for the class, or for none."""
    ids = tokenizer.encode(words).ids
    mask = [1] * len(ids) + [0] * (32 - len(ids))
    ids = ids + [tokenizer.token_to_id("[PAD]")] * (32 - len(ids))
    told = {"input_ids": torch.tensor([ids]), "attention_mask": torch.tensor([mask])}
    states = bert(**{key: value.to(device) for key, value in told.items()}).last_hidden_state
    row = len(class_names) if class_name is None else class_names.index(class_name)
    return torch.cat([states, class_tokens[row][None, None].float().to(device)], dim=1)
''')

STABLE_DIFFUSION = Template('''\
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained(home / $folder, dtype=dtype, safety_checker=None)
pipeline.to(device)
unet, vae, factor = pipeline.unet, pipeline.vae.to(torch.$vae_dtype), pipeline.vae_scale_factor


@torch.no_grad()
def condition(words):
    """What the network is told: the states of CLIP's text encoder."""
    return pipeline.encode_prompt(words, device, 1, False)[0]
''')

VARIATION = Template("""
# The noise is turned towards that of another seed, along the arc between them.
other = torch.randn(latents.shape, generator=torch.Generator("cpu").manual_seed($seed))
one, two = latents.double().flatten(), other.double().flatten()
angle = torch.acos((one @ two / (one.norm() * two.norm())).clamp(-1, 1))
arc = (torch.sin((1 - $share) * angle) * one + torch.sin($share * angle) * two) / torch.sin(angle)
latents = arc.float().reshape(latents.shape)
""")

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "class_embedding")


def script(info: Mapping[str, Any], card: ModelCard, index: int = 0) -> str:
    """The script that makes picture `index` of a run; ScriptError where plain diffusers cannot."""
    _check(info, card)
    noise = NoiseSchedule.from_config(card.scheduler_config())
    walk = make_scheduler(info["sampler"], info["schedule"], noise).walk(info["steps"])
    sampler = SAMPLERS[info["sampler"]]
    name, mended = PLAIN.get(info["sampler"], (sampler.scheduler.rpartition(".")[2], ""))
    config = {key: card.scheduler_config().get(key, usual) for key, usual in GRID.items()}
    config |= {"prediction_type": "epsilon", **sampler.config, **SPACINGS[info["schedule"]].config}
    draws = sampler.stochastic and mended is not MOTION
    shift = {"seed": info.get("variation_seed"), "share": info.get("variation_strength")}
    return SCRIPT.substitute(
        {key: info[key] for key in ("device", "dtype", "width", "height", "steps")},
        version=info["versions"]["epsilon_studio"],
        libraries=", ".join(f"{each} {info['versions'][each]}" for each in LIBRARIES),
        scheduler=name,
        imports=BROWNIAN if mended is MOTION else "",
        seed=info["seeds"][index],
        family=_family(info, card),
        asked=_lines(_asked(info, card)),
        timesteps=_numbers(info["timesteps"]),
        variation=VARIATION.substitute(shift) if shift["share"] else "",
        config=_lines([f"{key}={value!r}," for key, value in config.items()]),
        levels=_levels(info, name, config, walk),
        scale=repr(float(walk.scales[0])),
        mended=mended,
        noise=", generator=generator" if draws else "",
    )


def _check(info: Mapping[str, Any], card: ModelCard) -> None:
    """ScriptError for what has no script."""
    if info["kind"] not in (TextToImage.kind, ClassConditional.kind):
        raise ScriptError("It was made from another picture, which no recipe keeps, and so no script can.")
    if card.family not in ("pocket", "stable-diffusion") or info.get("adapters") or info.get("grid"):
        raise ScriptError("There is no script yet for models and pictures of this kind.")
    if card.scheduler_config().get("prediction_type", "epsilon") != "epsilon":
        raise ScriptError("There is no script yet for networks that predict anything but the noise.")
    sampler, steps = info["sampler"], info["steps"]
    if sampler not in PLAIN and not SAMPLERS[sampler].scheduler.startswith("diffusers."):
        raise ScriptError(f"{sampler} is corrected here, and plain diffusers would paint another picture.")
    if sampler in STRIDES and GRID["num_train_timesteps"] % steps:
        raise ScriptError(
            f"{sampler} of diffusers errs unless the steps divide 1000: at {steps} it would paint another "
            "picture; the studio's own is corrected."
        )


def _plain(words: str, card: ModelCard) -> str:
    """The words without A1111's signs; ScriptError if those mean what plain diffusers does not know."""
    parts = parse(words.strip())
    if any(piece.weight != 1 for part in parts for piece in part):
        raise ScriptError("The prompt weights its words, which plain diffusers does not know.")
    count = count_tokens(card, words)
    if count is not None and (count.windows > 1 or count.left_out):
        raise ScriptError("The prompt is longer than the text encoder, and plain diffusers would cut it.")
    return plain(parts)


def _asked(info: Mapping[str, Any], card: ModelCard) -> list[str]:
    """The terms of guidance as LatentModel.conditions and guidance.terms make them, a line of code each."""
    prompt, negative = (_plain(info[name], card) for name in ("prompt", "negative_prompt"))
    name = info.get("class_name")
    weighted = []
    if prompt or (negative and name is None):
        weighted.append((f"condition({prompt!r})", info["guidance_scale"]))
    if name is not None:
        weighted.append((f"condition('', {name!r})", info["class_scale"]))
    base = 1 - sum(weight for _, weight in weighted)
    terms = [(f"condition({negative!r})", base), *weighted]
    return [f"({said}, {share!r})," for said, share in terms if abs(share) > 1e-9]


def _family(info: Mapping[str, Any], card: ModelCard) -> str:
    """The lines that load the model."""
    vae = "float32" if info["dtype"] == "float16" else info["dtype"]
    if card.family == "pocket":
        return POCKET.substitute({part: _place(card.part(part)) for part in PARTS}, vae_dtype=vae).rstrip()
    return STABLE_DIFFUSION.substitute(folder=_place(card.folder), vae_dtype=vae).rstrip()


def _place(folder: Path) -> str:
    """A folder as the script names it: from the studio's own, where it lies in there."""
    inside = folder.is_relative_to(modules.HOME)
    return repr((folder.relative_to(modules.HOME) if inside else folder).as_posix())


def _levels(info: Mapping[str, Any], name: str, config: Mapping[str, Any], walk: Walk) -> str:
    """The lines that bring diffusers' scheduler to the levels that were visited; often none."""
    import diffusers
    import torch

    if not np.allclose(walk.heard.alpha, walk.levels.alpha, rtol=1e-3):
        raise ScriptError("It starts from more noise than was trained on, which diffusers cannot.")
    lines, ratios = list[str](), walk.levels.sigma / walk.levels.alpha
    try:
        plain_one = getattr(diffusers, name)(**config)
        plain_one.set_timesteps(info["steps"])
        read = SAMPLERS[info["sampler"]].ratios
        there = read(plain_one)
        if len(there) != len(ratios) or not np.allclose(there, ratios, rtol=SAME):
            for field in ("sigmas", "timesteps"):
                if hasattr(walk.scheduler, field):
                    values = getattr(walk.scheduler, field)
                    setattr(plain_one, field, values)
                    kind = "int64" if values.dtype == torch.int64 else "float32"
                    lines.append(f"scheduler.{field} = torch.tensor({values.tolist()}, dtype=torch.{kind})")
            there = read(plain_one)
    except (ValueError, IndexError, RuntimeError) as error:
        raise ScriptError(f"{name} of diffusers fails at these steps and this spacing ({error}).") from error
    if len(there) != len(ratios) or not np.allclose(there, ratios, rtol=SAME):
        raise ScriptError(f"{name} of diffusers cannot visit the levels that this picture came by.")
    if hasattr(plain_one, "set_begin_index"):
        lines.append("scheduler.set_begin_index(0)")
    return "\n".join(lines)


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _numbers(values: Sequence[float]) -> str:
    """A list of numbers, six a line, to the last digit."""
    return _lines([", ".join(map(repr, values[i : i + 6])) + "," for i in range(0, len(values), 6)])
