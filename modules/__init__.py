"""Epsilon Studio: a Task becomes a picture, with the noise schedule in plain sight."""

__version__ = "0.1.0"
