"""Pictures are laid onto one sheet here: in rows and columns, a label over each, block under block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, EMPTY = "#ffffff", "#1d1b18", "#f2efe8"
GAP, FONT_SIZE = 8, 15
SMALL = 144  # pixels: the longer side of a picture on a sheet that is still being filled
LARGEST_PREVIEW = 640

Labels = tuple[Sequence[str], Sequence[str], Sequence[str]]
"""What stands over the columns, over the rows, and over the blocks of rows."""


@dataclass(frozen=True)
class Sheet:
    """A sheet of `total` pictures so far: those that are there, small, in the order of their places."""

    small: tuple[Image.Image, ...]
    labels: Labels
    size: tuple[int, int]

    @property
    def done(self) -> int:
        """How many are there."""
        return len(self.small)

    @property
    def total(self) -> int:
        """How many there will be."""
        across, down, deep = self.labels
        return len(across) * len(down) * len(deep)

    def preview(self, forming: Image.Image | None = None) -> Image.Image:
        """The sheet so far, 640 pixels at most, with what the next picture looks like by now."""
        pictures = [
            *self.small,
            *([shrunk(forming, self.size)] if forming and self.done < self.total else []),
        ]
        if not pictures:
            pictures = [Image.new("RGB", shrunk_size(self.size), EMPTY)]
        sheet = contact_sheet(pictures, *self.labels)
        sheet.thumbnail((LARGEST_PREVIEW, LARGEST_PREVIEW))
        return sheet


def shrunk_size(size: tuple[int, int]) -> tuple[int, int]:
    """That size with 144 pixels on its longer side."""
    scale = SMALL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shrunk(picture: Image.Image, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture, or one of that size in its place, with 144 pixels on its longer side."""
    return picture.resize(shrunk_size(size or picture.size), Image.Resampling.BILINEAR)


def contact_sheet(
    pictures: Sequence[Image.Image], across: Sequence[str], down: Sequence[str], deep: Sequence[str] = ("",)
) -> Image.Image:
    """Pictures in rows of len(across), blocks of len(down) rows, as many as there are yet, all labelled."""
    wide, high = (max(picture.size[side] for picture in pictures) for side in (0, 1))
    each = len(across) * len(down)
    blocks = [_block(pictures[i * each :][:each], (wide, high), across, down) for i in range(len(deep))]
    if len(deep) == 1 and not deep[0]:
        return blocks[0]
    font, width = ImageFont.load_default(FONT_SIZE + 3), blocks[0].width
    heads = [_height([label], width - 2 * GAP, font) for label in deep]
    sheet = Image.new("RGB", (width, GAP + sum(heads) + sum(block.height for block in blocks)), PAPER)
    y = GAP
    for label, head, block in zip(deep, heads, blocks):
        _write(ImageDraw.Draw(sheet), label, (GAP, y), width - 2 * GAP, font)
        sheet.paste(block, (0, y + head))
        y += head + block.height
    return sheet


def sheet_size(size: tuple[int, int], labels: Labels) -> tuple[int, int]:
    """About how large the sheet of pictures of that size will be, its labels left out."""
    across, down, deep = map(len, labels)
    return GAP + across * (size[0] + GAP), GAP + down * deep * (size[1] + GAP)


def _block(
    pictures: Sequence[Image.Image], size: tuple[int, int], across: Sequence[str], down: Sequence[str]
) -> Image.Image:
    wide, high = size
    font = ImageFont.load_default(FONT_SIZE)
    top = _height(across, wide, font)
    tops = [_height([label], wide, font) for label in down]
    width = GAP + len(across) * (wide + GAP)
    sheet = Image.new("RGB", (width, GAP + top + sum(tops) + len(down) * (high + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    waiting = iter(pictures)
    y = GAP + top
    for column, label in enumerate(across):
        _write(draw, label, (GAP + column * (wide + GAP), GAP), wide, font)
    for label, above in zip(down, tops):
        _write(draw, label, (GAP, y), wide, font)
        y += above
        for column in range(len(across)):
            x = GAP + column * (wide + GAP)
            draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=EMPTY)
            if picture := next(waiting, None):
                sheet.paste(picture, (x, y))
        y += high + GAP
    return sheet


def _height(labels: Sequence[str], wide: int, font: Any) -> int:
    """What the tallest of the labels needs; nothing if all are empty."""
    lines = max(len(_wrapped(label, wide, font)) for label in labels)
    return lines * (FONT_SIZE + 4) + (GAP // 2 if lines else 0)


def _write(draw: ImageDraw.ImageDraw, label: str, place: tuple[int, int], wide: int, font: Any) -> None:
    for i, text in enumerate(_wrapped(label, wide, font)):
        draw.text((place[0], place[1] + i * (FONT_SIZE + 4)), text, fill=INK, font=font)


def _wrapped(label: str, wide: int, font: Any) -> list[str]:
    """A label in lines of at most `wide` pixels, three at most."""
    lines = [""]
    for word in label.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= wide or not lines[-1]:
            lines[-1] = longer
        elif len(lines) == 3:
            lines[-1] += "…"
            break
        else:
            lines.append(word)
    return [line for line in lines if line]
