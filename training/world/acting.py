"""Head, eyes and brows through a clip: sway, nods, turns, blinks, and feeling by the voice's energy."""

from __future__ import annotations

import numpy as np

from .blinks import pause_blinks, random_blinks
from .pose import POSE_NAMES

DOMAINS = ("speaking", "singing", "profile", "rare")


def loudness(samples: np.ndarray, frames: int) -> np.ndarray:
    """Voice energy (F,) in [0, 1], smoothed over a quarter of a second; samples: (S,) of the whole clip."""
    level = np.sqrt((samples[: len(samples) // frames * frames].reshape(frames, -1) ** 2).mean(axis=1))
    return np.clip(_smooth(level, 7) / 0.16, 0, 1)


def free_acting(random: np.random.Generator, frames: int, domain: str, *, fps: int = 25) -> np.ndarray:
    """Poses (F, P), columns POSE_NAMES, that have nothing to do with the speech; the first frame looks ahead with open
    eyes, but for profiles, which may begin turned.
    """
    seconds = np.arange(frames) / fps
    fade = np.clip(seconds, 0, 1)
    sway = {
        name: _sway(random, seconds) * fade for name in ("x", "y", "tilt", "gaze", "pitch", "brow", "smile")
    }
    return _poses(
        x=0.018 * sway["x"], y=0.008 * sway["y"], tilt=0.05 * sway["tilt"],
        eyes_open=random_blinks(random, frames, fps=fps),
        brow=np.clip(sway["brow"], 0, 1), gaze=0.7 * sway["gaze"], yaw=_turns(random, seconds, domain),
        pitch=0.07 * sway["pitch"], smile=np.clip(0.25 + 0.6 * sway["smile"], 0, 1),
    )  # fmt: skip


def spoken_acting(
    random: np.random.Generator, mouth: np.ndarray, energy: np.ndarray, domain: str, *, fps: int = 25
) -> np.ndarray:
    """Poses (F, P), columns POSE_NAMES, that follow the speech so that a student can foresee them.

    mouth: (F, 5); energy: (F,) of loudness(). Blinks when a pause begins; louder raises the brows, widens the eyes,
    smiles, nods and sways more. Wide vowels turn head and gaze to one side, round ones to the other. Singing moves in a
    slow rhythm; profiles turn far to a side and back. A little sway is nobody's to foresee.
    """
    frames = len(mouth)
    seconds = np.arange(frames) / fps
    fade = np.clip(seconds, 0, 1)
    stress = _smooth(mouth[:, 0], 11)
    stress = (stress - stress[0]) * fade
    feeling = _smooth(energy, 15) * fade
    sway = {name: _sway(random, seconds) * fade for name in ("x", "y", "tilt", "gaze", "pitch", "yaw")}
    rhythm = np.sin(2 * np.pi * 0.55 * seconds) * fade * (domain == "singing")
    lively = 0.6 + 0.8 * feeling
    lean = _smooth(mouth[:, 1] - mouth[:, 2], 21)
    lean = (lean - lean[0]) * fade
    yaw = _turns(random, seconds, domain) if domain == "profile" else 0.08 * sway["yaw"] + 0.3 * lean
    return _poses(
        x=0.005 * sway["x"] * lively, y=0.002 * sway["y"] + 0.010 * stress,
        tilt=0.012 * sway["tilt"] * lively + 0.03 * lean + 0.05 * rhythm,
        eyes_open=pause_blinks(mouth) * (1 + 0.13 * feeling), brow=np.clip(0.9 * stress + 0.6 * feeling, 0, 1),
        gaze=0.15 * sway["gaze"] + 0.4 * lean, yaw=yaw,
        pitch=0.012 * sway["pitch"] + 0.13 * stress - 0.05 * feeling, smile=np.clip(0.12 + 0.75 * feeling, 0, 1),
    )  # fmt: skip


def _poses(**columns: np.ndarray) -> np.ndarray:
    return np.stack([columns[name] for name in POSE_NAMES], axis=1).astype(np.float64)


def _smooth(track: np.ndarray, frames: int) -> np.ndarray:
    """Moving Hann mean over an odd number of frames."""
    window = np.hanning(frames + 2)[1:-1]
    return np.convolve(np.pad(track, frames // 2, mode="edge"), window / window.sum(), mode="valid")


def _sway(random: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Sum of three slow waves, about [-1, 1]."""
    waves = [
        amplitude * np.sin(2 * np.pi * hertz * seconds + random.uniform(0, 2 * np.pi))
        for amplitude, hertz in zip((0.6, 0.3, 0.15), random.uniform(0.08, 0.45, 3), strict=True)
    ]
    return np.sum(waves, axis=0)


def _turns(random: np.random.Generator, seconds: np.ndarray, domain: str) -> np.ndarray:
    """Yaw through a clip: small turns to both sides, or for profiles a long turn to one side."""
    if domain != "profile":
        return 0.25 * _sway(random, seconds) * np.clip(seconds, 0, 1)
    side, peak = random.choice((-1.0, 1.0)), random.uniform(0.72, 1.0)
    start = 0.0 if random.random() < 0.5 else random.uniform(0.4, 0.9) * peak
    length = max(seconds[-1], 1e-3)
    middle, width = random.uniform(0.45, 0.75) * length, random.uniform(0.35, 0.7)
    rise = 1 / (1 + np.exp(-(seconds - middle * 0.6) / (0.12 * width + 0.06)))
    first = 1 / (1 + np.exp(middle * 0.6 / (0.12 * width + 0.06)))
    rise = np.clip((rise - first) / (1 - first), 0, 1)
    turn = start + (peak - start) * rise
    if random.random() < 0.4:
        turn = turn * (1 - 0.8 / (1 + np.exp(-(seconds - 0.88 * length) / 0.15)))
    return np.clip(side * turn + 0.05 * _sway(random, seconds) * np.clip(seconds, 0, 1), -1, 1)
