"""Epsilon Studio: a Task becomes a picture, with the noise schedule in plain sight."""

from pathlib import Path

__version__ = "0.1.0"
HOME = Path(__file__).resolve().parent.parent
"""Where app.py, presets/ and assets/ are."""
