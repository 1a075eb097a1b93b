"""Head sway, blinks, brows and gaze of one clip."""

from __future__ import annotations

import numpy as np

from .blinks import pause_blinks, random_blinks
from .face import Pose

_BLINK = (0.55, 0.0, 0.0, 0.0, 0.5)  # openness of the eyes, frame by frame


def free_poses(random: np.random.Generator, frames: int, *, fps: int = 25) -> list[Pose]:
    """Motion that has nothing to do with the speech; the first frame has open eyes and a level head."""
    seconds = np.arange(frames) / fps
    fade = np.clip(seconds, 0, 1)
    sway = {name: _sway(random, seconds) * fade for name in ("x", "y", "tilt", "brow", "gaze")}
    eyes = random_blinks(random, frames, _BLINK, fps=fps)
    return _poses(
        0.020 * sway["x"], 0.010 * sway["y"], 0.055 * sway["tilt"], eyes,
        np.clip(sway["brow"], 0, 1), 0.6 * sway["gaze"],
    )  # fmt: skip


def spoken_poses(random: np.random.Generator, mouth: np.ndarray, *, fps: int = 25) -> list[Pose]:
    """Motion that follows the speech, so that a student can foresee it: blinks when a pause begins, nods
    and raised brows with loud stretches, and a little free sway. mouth: (F, 5) as mouth_track makes it.
    """
    frames = len(mouth)
    seconds = np.arange(frames) / fps
    fade = np.clip(seconds, 0, 1)
    window = np.hanning(13)[1:-1]
    stress = np.convolve(np.pad(mouth[:, 0], 5, mode="edge"), window / window.sum(), mode="valid")
    stress = stress - stress[0]
    sway = {name: _sway(random, seconds) * fade for name in ("x", "y", "tilt", "gaze")}
    return _poses(
        0.014 * sway["x"], 0.004 * sway["y"] + 0.022 * stress, 0.035 * sway["tilt"], pause_blinks(mouth, _BLINK),
        np.clip(1.2 * stress, 0, 1), 0.4 * sway["gaze"],
    )  # fmt: skip


def _poses(*columns: np.ndarray) -> list[Pose]:
    return [Pose(*(float(value) for value in row)) for row in zip(*columns, strict=True)]


def _sway(random: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Sum of three slow waves, about [-1, 1]."""
    waves = [
        amplitude * np.sin(2 * np.pi * hertz * seconds + random.uniform(0, 2 * np.pi))
        for amplitude, hertz in zip((0.6, 0.3, 0.15), random.uniform(0.08, 0.45, 3), strict=True)
    ]
    return np.sum(waves, axis=0)
