"""Transformer families with random weights, saved as diffusers saves their pipelines, made in a moment."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

WIDTH = 32
LABELS = {"0": "tench, Tinca tinca", "1": "crane", "2": "crane"}


def write_tiny_pipeline(folder: Path, kind: str, **changes: Any) -> Path:
    """Write one of `BUILDERS` with random weights into `folder`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = BUILDERS[kind](**changes)
        for network in pipe.components.values():
            if isinstance(network, torch.nn.Module):
                wake(network)
    pipe.save_pretrained(folder)
    return folder


def wake(network: torch.nn.Module) -> None:
    """Give layers that begin at zero, as gates do, something to say."""
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)


def clip(projection: bool = False) -> tuple[Any, Any]:
    """A CLIP text encoder and its tokenizer, one token a letter."""
    letters = list("abcdefghijklmnopqrstuvwxyz,.")
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        {piece: i for i, piece in enumerate(pieces)}, [], model_max_length=77
    )
    config = transformers.CLIPTextConfig(
        vocab_size=len(pieces), hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=WIDTH, bos_token_id=len(pieces) - 2,
        eos_token_id=len(pieces) - 1, pad_token_id=len(pieces) - 1,
    )  # fmt: skip
    network = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return network(config), tokenizer


def t5(width: int = WIDTH) -> tuple[Any, Any]:
    """A T5 encoder and its tokenizer, one token a letter."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz,."]
    tokenizer = transformers.T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0)
    config = transformers.T5Config(
        vocab_size=len(pieces), d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=2
    )
    return transformers.T5EncoderModel(config), tokenizer


def autoencoder(channels: int = 16) -> Any:
    """A variational autoencoder that shrinks by 8, with a shift as the later ones have."""
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 16), norm_num_groups=4, latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=1.3, shift_factor=0.1, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def sd3() -> Any:
    """Stable Diffusion 3: two CLIPs and a T5."""
    (one, first), (two, second), (three, third) = clip(True), clip(True), t5(2 * WIDTH)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=2 * WIDTH, caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH, out_channels=16, pos_embed_max_size=32,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), autoencoder(),
        one, first, two, second, three, third,
    )  # fmt: skip


def flux(guidance: bool = True) -> Any:
    """FLUX.1: a CLIP and a T5; without guidance as schnell."""
    (one, first), (two, second) = clip(), t5()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH,
        guidance_embeds=guidance, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=guidance, shift=3.0 if guidance else 1.0, base_shift=0.5, max_shift=1.15
    )
    return diffusers.FluxPipeline(scheduler, autoencoder(), one, first, two, second, transformer)


def dit() -> Any:
    """DiT: classes, eps with a learned variance, and a scheduler of linear betas."""
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2,
        sample_size=16, num_embeds_ada_norm=1000,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    vae = autoencoder(4)
    vae.register_to_config(shift_factor=None)
    pipe = diffusers.DiTPipeline(transformer, vae, scheduler)
    pipe.register_to_config(id2label=LABELS)
    return pipe


BUILDERS = {"sd3": sd3, "flux": flux, "dit": dit}
