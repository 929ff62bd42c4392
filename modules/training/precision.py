"""Which precision training computes in on this CPU is decided here."""

import torch


def precision() -> torch.autocast:
    """Automatic bfloat16 where the CPU has instructions for it: without them it is ten times slower."""
    swift = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=swift)
