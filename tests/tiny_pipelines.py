"""Transformer families with random weights, saved as diffusers saves their pipelines, made in a moment."""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import pre_tokenizers

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


def flux(guidance: bool = True, kontext: bool = False) -> Any:
    """FLUX.1: a CLIP and a T5; without guidance as schnell; or Kontext."""
    (one, first), (two, second) = clip(), t5()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH,
        guidance_embeds=guidance, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=guidance, shift=3.0 if guidance else 1.0, base_shift=0.5, max_shift=1.15
    )
    kind = diffusers.FluxKontextPipeline if kontext else diffusers.FluxPipeline
    return kind(scheduler, autoencoder(), one, first, two, second, transformer)


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


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


LOOKING = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
"""What Qwen's vision-language models mark a picture with; tokens 259 to 262 here."""


def qwen_tokenizer() -> Any:
    """Qwen's tokenizer with one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, "<|endoftext|>", "<|im_start|>", "<|im_end|>", *LOOKING]
    tokenizer = transformers.Qwen2Tokenizer({piece: i for i, piece in enumerate(pieces)}, [])
    tokenizer.add_special_tokens({"additional_special_tokens": [*LOOKING]})
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen3(layers: int, head: bool) -> Any:
    """A Qwen3 language model, with or without its head."""
    config = transformers.Qwen3Config(
        vocab_size=260, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=2048,
    )  # fmt: skip
    return (transformers.Qwen3ForCausalLM if head else transformers.Qwen3Model)(config)


def qwen_vision() -> Any:
    """A Qwen2.5-VL vision-language model."""
    text = {
        "vocab_size": 263, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": WIDTH, "num_heads": 2, "intermediate_size": 64,
              "out_hidden_size": WIDTH, "fullatt_block_indexes": [0]}  # fmt: skip
    config = transformers.Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, vision_start_token_id=259, vision_end_token_id=260,
        image_token_id=261, video_token_id=262,
    )  # fmt: skip
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def qwen_image(edit: str = "") -> Any:
    """Qwen-Image: a vision-language model for words, a video's autoencoder; or an "Edit" or "EditPlus"."""
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=64, out_channels=16, num_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=WIDTH, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192,
        shift_terminal=0.02,
    )  # fmt: skip
    kind = getattr(diffusers, f"QwenImage{edit}Pipeline")
    tokenizer = qwen_tokenizer()
    looks = {"processor": qwen_processor(tokenizer)} if edit else {}
    return kind(scheduler, vae, qwen_vision(), tokenizer, transformer=transformer, **looks)


def qwen_processor(tokenizer: Any) -> Any:
    """What makes a picture and words into the input of Qwen's vision-language model."""
    images = transformers.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=1024 * 1024)
    videos = transformers.Qwen2VLVideoProcessor()
    return transformers.Qwen2VLProcessor(images, tokenizer, videos, chat_template=CHAT)


def z_image() -> Any:
    """Z-Image: a Qwen3 for words."""
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
        axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return diffusers.ZImagePipeline(scheduler, autoencoder(), qwen3(3, False), qwen_tokenizer(), transformer)


def flux2(distilled: bool = True) -> Any:
    """FLUX.2 klein: a Qwen3's middle layers for words, latents normed in patches."""
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=3 * WIDTH, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 16), norm_num_groups=4, latent_channels=16, layers_per_block=1
    )
    vae.bn.running_mean.normal_(std=0.1)
    vae.bn.running_var.uniform_(0.5, 1.5)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return diffusers.Flux2KleinPipeline(
        scheduler, vae, qwen3(28, True), qwen_tokenizer(), transformer, is_distilled=distilled
    )


BUILDERS = {
    "sd3": sd3, "flux": flux, "dit": dit, "qwen-image": qwen_image, "z-image": z_image, "flux2": flux2,
}  # fmt: skip
