"""Small pictures that nodes show: a step schedule, a preview frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

SYNC_WINDOW = (0.556, 0.882)
"""Noise levels that move the lips most (Lip Forcing, section 5)."""

_SIZE = (384, 128)
_MARGIN = 16
_PAPER, _INK, _WINDOW, _DOT = (24, 24, 28), (150, 150, 160), (52, 74, 60), (240, 190, 90)


def draw_steps(sigmas: Sequence[float]) -> torch.Tensor:
    """The noise levels along a line from 1 (left) to 0 (right), the sync window shaded: IMAGE (1, H, W, 3)."""
    image = Image.new("RGB", _SIZE, _PAPER)
    draw = ImageDraw.Draw(image)
    width, height = _SIZE
    middle = height // 2

    def place(sigma: float) -> float:
        return _MARGIN + (1.0 - sigma) * (width - 2 * _MARGIN)

    def write(text: str, x: float, y: float) -> None:
        """Text around x that stays inside the picture."""
        half = draw.textlength(text) / 2
        draw.text((min(max(x, half + 1), width - half - 1) - half, y), text, fill=_INK)

    low, high = SYNC_WINDOW
    draw.rectangle((place(high), _MARGIN, place(low), height - _MARGIN), fill=_WINDOW)
    draw.line((place(1), middle, place(0), middle), fill=_INK)
    for index, sigma in enumerate(sigmas):
        x = place(sigma)
        draw.ellipse((x - 4, middle - 4, x + 4, middle + 4), fill=_DOT if sigma else _INK)
        write(f"{sigma:.3g}", x, middle + (10 if index % 2 else -24))
    write("noise", place(1), 1)
    write(f"sync window {low} to {high}", place((low + high) / 2), height - _MARGIN + 1)
    write("clean", place(0), 1)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)[None]


def to_picture(frame_HWC: np.ndarray) -> Image.Image:
    """One uint8 frame as a picture for the host's preview."""
    return Image.fromarray(frame_HWC)
