"""How much survives the way into latents and back, of pictures that the autoencoder never saw."""

from pathlib import Path
from typing import Any

import torch

from modules.models.latent import LatentModel
from modules.training.autoencoder import Pictures, psnr
from modules.training.sight import held_out_scenes

COUNT = 24


def fidelity(model: LatentModel, share: float, data: Path | None) -> dict[str, Any]:
    """Mean peak signal-to-noise ratio in dB, of scenes and where there is Toyland of 3D icons, held out."""
    count = max(4, round(COUNT * share))
    drawn = [torch.from_numpy(one.image.copy()).permute(2, 0, 1) for one in held_out_scenes(count)]
    shown = {"scenes": torch.stack(drawn).float() / 127.5 - 1}
    if data is not None:
        shown["3D icons"] = Pictures(data, 256).held_out_batch(count)
    return {
        name: {"dB": round(psnr(model.autoencoder, pictures), 2), "pictures": len(pictures)}
        for name, pictures in shown.items()
    }
