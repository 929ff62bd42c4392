"""Pictures cross from PIL to tensors and back here, and strangers' files are opened here, safely."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    import torch

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 32_000_000


class PictureError(ValueError):
    """A picture that will not be opened; the message is a sentence for whoever sent it."""


def guard_decoders() -> None:
    """Make PIL refuse, in this whole process, all but PNG, JPEG and WebP, and pictures beyond 32 megapixels.

    gradio decodes uploads before any function of ours runs, so this must happen before the page opens.
    """
    Image.init()
    for name in [name for name in Image.OPEN if name not in FORMATS]:
        del Image.OPEN[name]
    Image.ID[:] = [name for name in Image.ID if name in FORMATS]
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # PIL warns there, and refuses at twice as many


def open_picture(source: str | Path | bytes | Image.Image) -> Image.Image:
    """A picture as upright RGB, whatever it was; transparency becomes white.

    PictureError if it is missing, damaged, too large, or neither PNG, JPEG nor WebP.
    """
    return _opened(source, _flat)


def open_mask(source: str | Path | bytes | Image.Image) -> Image.Image:
    """A mask as upright greys: its own, or where some of it is transparent how opaque it is.

    PictureError as `open_picture`.
    """
    return _opened(source, _coverage)


def _opened(
    source: str | Path | bytes | Image.Image, read: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    if isinstance(source, Image.Image):
        return read(source)
    name = "the picture" if isinstance(source, bytes) else Path(source).name
    try:
        with Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        ) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise _too_large(name)
            return read(opened)
    except FileNotFoundError as error:
        raise PictureError(f"{name} is not there.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name) from error
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{name} is not a picture that can be opened: send a PNG, JPEG or WebP."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, PictureError):
            raise
        raise PictureError(f"{name} is damaged ({error}).") from error


def to_pil(pictures: torch.Tensor) -> tuple[Image.Image, ...]:
    """(B, 3, H, W) from -1 to 1 to pictures of eight bits."""
    eight_bit = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return tuple(Image.fromarray(array) for array in eight_bit.permute(0, 2, 3, 1).cpu().numpy())


def to_tensor(*pictures: Image.Image) -> torch.Tensor:
    """RGB pictures of one size to (B, 3, H, W) float32 from -1 to 1."""
    import numpy as np
    import torch

    stacked = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


def _flat(picture: Image.Image) -> Image.Image:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # sixteen bits, which PIL would cut off at 255
        picture = picture.convert("I").point(lambda level: level / 257).convert("L")
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return picture.convert("RGB")


def _coverage(picture: Image.Image) -> Image.Image:
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        opacity = picture.convert("RGBA").getchannel("A")
        if opacity.getextrema()[0] < 255:
            return opacity
    return _flat(picture).convert("L")


def _too_large(name: str) -> PictureError:
    return PictureError(
        f"{name} is too large: pictures may have at most {MOST_PIXELS // 10**6} million pixels."
    )
