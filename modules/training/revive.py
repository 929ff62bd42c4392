"""The shipped family becomes the beginning of a training run here, where the run's own state is gone.

    python -m modules.training.revive --base assets/pocket --run RUN

What float16 and the averaging left out is lost: the optimizer begins anew, and so does the count of steps, so
that the learning rate warms up again. The count of samples goes on.
"""

import argparse
import json
from pathlib import Path

import torch

from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.training.checkpoint import save_run
from modules.training.denoiser import Pocket


def revive(base: Path, run: Path) -> int:
    """Write `run/autoencoder.pt`, `run/scaling.json` and `run/denoiser.pt`; returns the samples seen so far.

    FileExistsError where the run has a denoiser of its own: that one knows more than the shipped weights.
    """
    if (run / "denoiser.pt").exists():
        raise FileExistsError(f"{run / 'denoiser.pt'} is there already: go on from it.")
    model = load(card_for_folder(base), "cpu", "float32")
    facts = json.loads((base / "manifest.json").read_text())["training"]
    run.mkdir(parents=True, exist_ok=True)
    (run / "scaling.json").write_text(
        json.dumps({"scaling_factor": model.autoencoder.config["scaling_factor"]})
    )
    _begin(run / "autoencoder.pt", model.autoencoder, step=facts["autoencoder_steps"])
    network = Pocket()
    network.unet.load_state_dict(model.unet.state_dict())
    assert model.classes is not None
    network.class_tokens.load_state_dict({"weight": model.classes.weight})
    _begin(run / "denoiser.pt", network, step=0, samples=facts["denoiser_samples"])
    return facts["denoiser_samples"]


def _begin(path: Path, network: torch.nn.Module, **progress: int) -> None:
    """Save a network as its own average, beside an optimizer that has seen nothing yet."""
    network.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    save_run(path, network, network, optimizer, **progress)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=Path("assets/pocket"), help="a family of this kind")
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder for the training state")
    args = parser.parse_args()
    print(f"The denoiser goes on from {revive(args.base, args.run):,} samples.")


if __name__ == "__main__":
    main()
