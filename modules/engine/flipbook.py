"""The steps of a run become one file here: a GIF to be shown around, or a ZIP of frames and numbers."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from modules.engine.trajectory import CLEAN, NOISY, Moment, Trajectory

PACE, LAST = 120, 1500  # milliseconds that a frame and the last one stay
PAPER, INK, SOFT = (250, 248, 244), (29, 27, 24), (102, 95, 85)
GAP, HEAD, FONT_SIZE = 10, 26, 13
TITLES = {NOISY: "the noisy latents", CLEAN: "what the network has in mind"}
AT_ONCE = 8  # moments decoded together


def gif(trajectory: Trajectory, picture: int = 0) -> Path:
    """A looping GIF in a new temporary folder, which is the caller's to delete: noisy left, x_0 right."""
    pages = [
        _page(moment, trajectory.total, frame)
        for moment, frame in zip(trajectory.moments, _all(trajectory, [NOISY, CLEAN], picture))
    ]
    path = Path(tempfile.mkdtemp(prefix="epsilon-")) / "steps.gif"
    times = [PACE] * (len(pages) - 1) + [LAST]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=times, loop=0)
    return path


def packed(trajectory: Trajectory, picture: int = 0) -> Path:
    """A ZIP in a new temporary folder, which is the caller's to delete: every frame, and their levels."""
    path = Path(tempfile.mkdtemp(prefix="epsilon-")) / "steps.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
        frames = _all(trajectory, trajectory.names, picture)
        for moment, frame in zip(trajectory.moments, frames):
            for name, image in frame.items():
                buffer = io.BytesIO()
                image.save(buffer, "PNG")
                archive.writestr(f"{name.replace(' ', '-')}-{moment.index + 1:04}.png", buffer.getvalue())
        levels = [dict(list(moment._asdict().items())[:-1]) for moment in trajectory.moments]
        archive.writestr("levels.json", json.dumps({"calls": trajectory.total, "kept": levels}, indent=1))
    return path


EXPORTS = {"gif": gif, "zip": packed}


def _all(trajectory: Trajectory, names: list[str], picture: int) -> list[dict[str, Image.Image]]:
    """The frames of every moment, decoded some at a time."""
    frames: list[dict[str, Image.Image]] = []
    for start in range(0, len(trajectory.moments), AT_ONCE):
        places = range(start, min(start + AT_ONCE, len(trajectory.moments)))
        frames += trajectory.frames(places, names, picture)
    return frames


def _page(moment: Moment, total: int, frame: dict[str, Image.Image]) -> Image.Image:
    """The frames of one moment side by side, with their titles, and the level below."""
    wide, high = next(iter(frame.values())).size
    sheet = Image.new("RGB", (GAP + len(frame) * (wide + GAP), 2 * HEAD + high), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for column, (name, image) in enumerate(frame.items()):
        x = GAP + column * (wide + GAP)
        draw.text((x, 6), TITLES.get(name, name), fill=SOFT, font=font)
        sheet.paste(image, (x, HEAD))
    level = f"call {moment.index + 1} of {total}    t {moment.t:.4g}    SNR {moment.snr:.3g}"
    draw.text((GAP, HEAD + high + 5), level, fill=INK, font=font)
    return sheet
