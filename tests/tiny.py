"""Model families with random weights, in the layouts of Pocket and Stable Diffusion 1, made in a moment."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

CLASSES = ["apple", "cat", "rocket", "star"]
WORDS = [
    "a",
    "the",
    "on",
    "and",
    "red",
    "blue",
    "green",
    "apple",
    "cat",
    "heart",
    "rocket",
    "star",
    "background",
]
WIDTH = 32


def write_tiny_family(folder: Path, seed: int = 0) -> Path:
    """Write Pocket's layout with random weights into `folder`, manifest and all."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        write_networks(folder)
        write_text_encoder(folder)
        write_classes(folder)
    write_scheduler(folder)
    write_manifest(folder)
    return folder


def write_networks(folder: Path) -> None:
    from diffusers import AutoencoderDC, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=16, in_channels=8, out_channels=8, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH, attention_head_dim=2, norm_num_groups=8, time_cond_proj_dim=16,
    )  # fmt: skip
    unet.save_pretrained(folder / "unet", max_shard_size="100KB")
    widths = (8, 8, 8, 16, 16)
    autoencoder = AutoencoderDC(
        latent_channels=8, encoder_block_out_channels=widths, decoder_block_out_channels=widths,
        encoder_layers_per_block=(0, 1, 1, 1, 1), decoder_layers_per_block=(0, 1, 1, 1, 1),
        encoder_qkv_multiscales=((),) * 5, decoder_qkv_multiscales=((),) * 5, scaling_factor=0.7,
    )  # fmt: skip
    autoencoder.save_pretrained(folder / "vae")


def write_tiny_controlnet(folder: Path, kind: str, seed: int = 0, **changes: Any) -> Path:
    """Add a ControlNet with random weights for a control type to a family, its zero convolutions included."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    config = {**json.loads((folder / "unet" / "config.json").read_text()), **changes}
    strides = 5 if (folder / "class_embedding").is_dir() else 4  # Pocket shrinks pictures by 16, not by 8
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        control = ControlNetModel.from_unet(
            UNet2DConditionModel.from_config(config), "rgb", (4, 8, 8, 16, 16)[:strides], False
        )
        for convolution in (*control.controlnet_down_blocks, control.controlnet_mid_block,
                            control.controlnet_cond_embedding.conv_out):  # fmt: skip
            torch.nn.init.normal_(convolution.weight, std=0.2)
    control.save_pretrained(folder / "controlnet" / kind)
    return folder / "controlnet" / kind


def write_text_encoder(folder: Path) -> None:
    letters = [chr(i) for i in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *WORDS]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(128)  # as sentence-transformers' files have it
    (folder / "tokenizer").mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, architectures=["BertModel"],
    )  # fmt: skip
    network = BertModel(config)
    (folder / "text_encoder").mkdir()
    config.to_json_file(folder / "text_encoder" / "config.json")
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    words = weights.pop("embeddings.word_embeddings.weight")
    halves = {
        f"embeddings.word_embeddings.weight::{i}": half.clone() for i, half in enumerate(words.chunk(2))
    }
    save_file(
        weights | {"embeddings.word_embeddings.weight::1": halves.popitem()[1]},
        folder / "text_encoder" / "b.safetensors",
    )
    save_file(halves, folder / "text_encoder" / "a.safetensors")


def write_classes(folder: Path) -> None:
    (folder / "class_embedding").mkdir()
    (folder / "class_embedding" / "classes.json").write_text(json.dumps(CLASSES))
    weight = torch.randn(len(CLASSES) + 1, WIDTH)
    save_file({"weight": weight}, folder / "class_embedding" / "class_embedding.safetensors")


def write_scheduler(folder: Path) -> None:
    config = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
        "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "epsilon", "steps_offset": 1,
    }  # fmt: skip
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))


def write_manifest(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    entries = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in files
    }
    (folder / "manifest.json").write_text(json.dumps({"files": entries}))


def write_tiny_stable_diffusion(
    folder: Path, prediction_type: str = "epsilon", vocab_size: int = 58, **unet: Any
) -> Path:
    """Write a Stable Diffusion pipeline with random weights, as diffusers saves one.

    `unet` changes the U-Net's configuration.
    """
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = StableDiffusionPipeline(
            _autoencoder(), _clip(CLIPTextModel, vocab_size=vocab_size), _clip_tokenizer(), _unet(**unet),
            _scheduler(prediction_type), None, None, requires_safety_checker=False,  # type: ignore
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def write_tiny_sdxl(
    folder: Path, prediction_type: str = "epsilon", vocab_size: int = 58, **unet: Any
) -> Path:
    """Write an SDXL pipeline with random weights, as diffusers saves one."""
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(1)
        pipeline = StableDiffusionXLPipeline(
            _autoencoder(scaling_factor=0.13025, force_upcast=False),
            _clip(CLIPTextModel, vocab_size=vocab_size),
            _clip(CLIPTextModelWithProjection, hidden_act="gelu", vocab_size=vocab_size), _clip_tokenizer(),
            _clip_tokenizer("a</w>"), _unet(**TWO_TEXTS, **unet),
            _scheduler(prediction_type), add_watermarker=False,
        )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


TWO_TEXTS = {
    "cross_attention_dim": 2 * WIDTH, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + WIDTH, "use_linear_projection": True,
}  # fmt: skip


def _unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": 16, "layers_per_block": 1, "block_out_channels": (16, 32),
        "cross_attention_dim": WIDTH, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "attention_head_dim": 2,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "norm_num_groups": 8, "out_channels": 4,
    }  # fmt: skip
    return UNet2DConditionModel(**{**config, **changes})


def _autoencoder(**changes: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 16), norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **changes,
    )  # fmt: skip


def _clip_tokenizer(pad: str = "<|endoftext|>") -> Any:
    from transformers import CLIPTokenizer

    letters = list("abcdefghijklmnopqrstuvwxyz,.")
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return CLIPTokenizer(vocabulary, [], model_max_length=77, pad_token=pad)


def _clip(kind: Any, **changes: Any) -> Any:
    from transformers import CLIPTextConfig

    config = {
        "vocab_size": 58, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "projection_dim": WIDTH, "bos_token_id": 56, "eos_token_id": 57,
        "pad_token_id": 57,
    }  # fmt: skip
    return kind(CLIPTextConfig(**{**config, **changes}))


def _scheduler(prediction_type: str) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1,
        set_alpha_to_one=False, prediction_type=prediction_type,
    )  # fmt: skip
