"""When eyes close and open again: at random, or as soon as the mouth has closed for a pause."""

from __future__ import annotations

import numpy as np

Blink = tuple[float, ...]
"""Openness of the eyes in [0, 1], frame by frame."""

_FIRST_FRAME = 5
_CLOSED_MOUTH = 0.03
_PAUSE_FRAMES = 5


def random_blinks(random: np.random.Generator, frames: int, blink: Blink, *, fps: int) -> np.ndarray:
    """Openness of the eyes (F,): a blink every 0.9 to 3.2 s."""
    eyes = np.ones(frames)
    at = _FIRST_FRAME + int(random.uniform(0, 1.2) * fps)
    while at < frames:
        _close(eyes, at, blink)
        at += int(random.uniform(0.9, 3.2) * fps)
    return eyes


def pause_blinks(mouth: np.ndarray, blink: Blink) -> np.ndarray:
    """Openness of the eyes (F,) to a mouth (F, 5): a blink as soon as it has closed for a pause."""
    closed = mouth[:, 0] < _CLOSED_MOUTH
    eyes = np.ones(len(mouth))
    for frame in range(1, len(mouth) - _PAUSE_FRAMES):
        if not closed[frame - 1] and closed[frame : frame + _PAUSE_FRAMES].all():
            _close(eyes, frame + 1, blink)
    return eyes


def _close(eyes: np.ndarray, at: int, blink: Blink) -> None:
    for offset, openness in enumerate(blink):
        if at + offset < len(eyes):
            eyes[at + offset] = openness
