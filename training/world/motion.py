"""Head sway, blinks, brows and gaze of one clip."""

from __future__ import annotations

import numpy as np

from .face import Pose

_BLINK = (0.55, 0.0, 0.0, 0.0, 0.5)  # openness of the eyes, frame by frame


def random_poses(
    random: np.random.Generator, frames: int, *, fps: int = 25, still_start: bool = True
) -> list[Pose]:
    """Draw a motion for a whole clip; with still_start the first frame has open eyes and a level head."""
    seconds = np.arange(frames) / fps
    fade = np.clip(seconds / 1.0, 0, 1) if still_start else np.ones(frames)
    x = 0.020 * _sway(random, seconds) * fade
    y = 0.010 * _sway(random, seconds) * fade
    tilt = 0.055 * _sway(random, seconds) * fade
    brow = np.clip(_sway(random, seconds), 0, 1) * fade
    gaze = 0.6 * _sway(random, seconds) * fade
    eyes = _blinks(random, frames, fps=fps, first=5 if still_start else -3)
    columns = zip(x, y, tilt, eyes, brow, gaze, strict=True)
    return [Pose(*(float(value) for value in row)) for row in columns]


def _sway(random: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Sum of three slow waves, about [-1, 1]."""
    waves = [
        amplitude * np.sin(2 * np.pi * hertz * seconds + random.uniform(0, 2 * np.pi))
        for amplitude, hertz in zip((0.6, 0.3, 0.15), random.uniform(0.08, 0.45, 3), strict=True)
    ]
    return np.sum(waves, axis=0)


def _blinks(random: np.random.Generator, frames: int, *, fps: int, first: int) -> np.ndarray:
    """Openness of the eyes per frame, in [0, 1]."""
    eyes = np.ones(frames)
    at = first + int(random.uniform(0, 1.2) * fps)
    while at < frames:
        for offset, openness in enumerate(_BLINK):
            if 0 <= at + offset < frames:
                eyes[at + offset] = openness
        at += int(random.uniform(0.9, 3.2) * fps)
    return eyes
