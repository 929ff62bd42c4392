"""A ControlNet follows its base here: what the base has learned since goes into the copies of its weights.

    python -m modules.training.rebase --old OLD_BASE --base assets/pocket --run RUN

ControlNet and decoder began as the old base. What they learned and what the base has learned since are both
differences from it, and their sum is where training goes on from (Ilharco et al. 2023, arXiv:2212.04089,
section 2: task vectors are added).
"""

import argparse
from pathlib import Path

import torch

from modules.models.catalog import card_for_folder
from modules.models.loading import load
from modules.training.checkpoint import load_state, save_state
from modules.training.scene_cache import MAPS

COPIES = ("control.", "unet.")  # of a `Led` network: where weights of the base went


def rebased(
    weights: dict[str, torch.Tensor], old: dict[str, torch.Tensor], new: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The weights of a `Led` network, moved by new - old wherever they are a copy of the base's."""
    moved = dict(weights)
    for name in weights:
        for prefix in COPIES:
            source = name.removeprefix(prefix)
            if name.startswith(prefix) and source in old:
                moved[name] = weights[name] + (new[source] - old[source])
    return moved


def rebase(old: Path, base: Path, folder: Path) -> None:
    """Move `folder/control.pt` from one base to another of the same shape; progress and optimizer stay."""
    state = load_state(folder / "control.pt")
    if state is None:
        raise FileNotFoundError(f"{folder} lacks control.pt: train it first")
    before, after = (load(card_for_folder(one), "cpu", "float32").unet.state_dict() for one in (old, base))
    for part in ("network", "average"):
        state[part] = rebased(state[part], before, after)
    save_state(folder / "control.pt", state)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, required=True, help="the family that the run was trained on")
    parser.add_argument("--base", type=Path, default=Path("assets/pocket"), help="the family to go on with")
    parser.add_argument("--kinds", choices=tuple(MAPS), nargs="+", default=tuple(MAPS))
    parser.add_argument("--run", type=Path, default=Path("runs/pocket"), help="folder of the training state")
    args = parser.parse_args()
    rebase(args.old, args.base, args.run / f"control-{'-'.join(args.kinds)}")


if __name__ == "__main__":
    main()
