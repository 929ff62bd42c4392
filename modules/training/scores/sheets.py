"""Contact sheets: pictures in rows, each with its line."""

import textwrap

import numpy as np
from PIL import Image, ImageDraw

LINE = 13  # pixels


def contact_sheet(
    pictures: list[np.ndarray], titles: list[str], columns: int, side: int = 192, lines: int = 1
) -> Image.Image:
    """Pictures (H, W, 3) uint8 at one size, row by row, with as much of its title below each as has room."""
    rows, below = -(-len(pictures) // columns), 13 + LINE * lines
    sheet = Image.new("RGB", (columns * (side + 8) + 8, rows * (side + below) + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        x, y = 8 + (i % columns) * (side + 8), 8 + (i // columns) * (side + below)
        sheet.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS), (x, y))
        told = textwrap.wrap(title, side // 6)[:lines]
        draw.multiline_text((x + 2, y + side + 4), "\n".join(told), fill="#333", spacing=1)
    return sheet
