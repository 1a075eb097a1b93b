"""When eyes close and open again: at random, or as soon as the mouth has closed for a pause."""

from __future__ import annotations

import numpy as np

_BLINK = (0.5, 0.0, 0.0, 0.35, 0.8)  # openness of the eyes, frame by frame
_FIRST_FRAME = 5
_CLOSED_MOUTH = 0.03
_PAUSE_FRAMES = 5


def random_blinks(random: np.random.Generator, frames: int, *, fps: int) -> np.ndarray:
    """Openness of the eyes (F,): a blink every 0.9 to 3.2 s."""
    eyes = np.ones(frames)
    at = _FIRST_FRAME + int(random.uniform(0, 1.2) * fps)
    while at < frames:
        _close(eyes, at)
        at += int(random.uniform(0.9, 3.2) * fps)
    return eyes


def pause_blinks(mouth: np.ndarray) -> np.ndarray:
    """Openness of the eyes (F,) to a mouth (F, 5): a blink as soon as it has closed for a pause."""
    closed = mouth[:, 0] < _CLOSED_MOUTH
    eyes = np.ones(len(mouth))
    for frame in range(1, len(mouth) - _PAUSE_FRAMES):
        if not closed[frame - 1] and closed[frame : frame + _PAUSE_FRAMES].all():
            _close(eyes, frame + 1)
    return eyes


def _close(eyes: np.ndarray, at: int) -> None:
    for offset, openness in enumerate(_BLINK):
        if at + offset < len(eyes):
            eyes[at + offset] = openness
