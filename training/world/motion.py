"""Head sway, blinks, brows and gaze of one clip."""

from __future__ import annotations

import numpy as np

from .face import Pose

_BLINK = (0.55, 0.0, 0.0, 0.0, 0.5)  # openness of the eyes, frame by frame
_CLOSED_MOUTH = 0.03
_PAUSE_FRAMES = 5


def free_poses(random: np.random.Generator, frames: int, *, fps: int = 25) -> list[Pose]:
    """Motion that has nothing to do with the speech; the first frame has open eyes and a level head."""
    seconds = np.arange(frames) / fps
    fade = np.clip(seconds, 0, 1)
    sway = {name: _sway(random, seconds) * fade for name in ("x", "y", "tilt", "brow", "gaze")}
    eyes = _random_blinks(random, frames, fps=fps, first=5)
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
        0.014 * sway["x"], 0.004 * sway["y"] + 0.022 * stress, 0.035 * sway["tilt"], _pause_blinks(mouth),
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


def _random_blinks(random: np.random.Generator, frames: int, *, fps: int, first: int) -> np.ndarray:
    """Openness of the eyes per frame, in [0, 1]: a blink every 0.9 to 3.2 s."""
    eyes = np.ones(frames)
    at = first + int(random.uniform(0, 1.2) * fps)
    while at < frames:
        _blink(eyes, at)
        at += int(random.uniform(0.9, 3.2) * fps)
    return eyes


def _pause_blinks(mouth: np.ndarray) -> np.ndarray:
    """Openness of the eyes per frame: a blink as soon as the mouth has closed for a pause."""
    closed = mouth[:, 0] < _CLOSED_MOUTH
    eyes = np.ones(len(mouth))
    for frame in range(1, len(mouth) - _PAUSE_FRAMES):
        if not closed[frame - 1] and closed[frame : frame + _PAUSE_FRAMES].all():
            _blink(eyes, frame + 1)
    return eyes


def _blink(eyes: np.ndarray, at: int) -> None:
    for offset, openness in enumerate(_BLINK):
        if at + offset < len(eyes):
            eyes[at + offset] = openness
