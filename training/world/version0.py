"""Version 0 of the drawing, which the shipped student knows: one clip's poses, pictures and mouth boxes as arrays."""

from __future__ import annotations

import numpy as np

from .face import Pose, draw_face
from .identity import Identity
from .identity import random_identity as random_identity
from .motion import free_poses, spoken_poses
from .pose import POSE_NAMES
from .visemes import MouthShape

_COLUMNS = ("x", "y", "tilt", "eyes_open", "brow", "gaze")
_TALLEST, _WIDEST = 0.145, 1.08  # opening in picture fractions, mouth widths at full spread: as in mouth.py


def poses(random: np.random.Generator, mouth: np.ndarray, *, free: bool, fps: int) -> np.ndarray:
    """(F, P) float64, columns POSE_NAMES; what version 0 does not move is 0."""
    made = free_poses(random, len(mouth), fps=fps) if free else spoken_poses(random, mouth, fps=fps)
    rows = [[getattr(pose, name) if name in _COLUMNS else 0.0 for name in POSE_NAMES] for pose in made]
    return np.array(rows, np.float64)


def pictures(who: Identity, mouth: np.ndarray, pose: np.ndarray, *, side: int) -> np.ndarray:
    """(F, H, W, 3) uint8 along a mouth track (F, 5) and poses (F, P)."""
    columns = pose[:, [POSE_NAMES.index(name) for name in _COLUMNS]].tolist()
    rows = zip(columns, mouth.tolist(), strict=True)
    return np.stack([draw_face(who, Pose(*where), MouthShape(*shape), side=side) for where, shape in rows])


def places(who: Identity, pose: np.ndarray) -> np.ndarray:
    """Boxes of the widest mouth (F, 4) float32: centre x, y and half width, half height, as fractions of the side."""
    x, y, tilt = (pose[:, POSE_NAMES.index(name)] for name in ("x", "y", "tilt"))
    above = 0.36 * _TALLEST + who.lip_thickness + 0.012
    below = 0.64 * _TALLEST + 1.15 * who.lip_thickness
    centre = 0.5 + y + who.mouth_y - 0.5 + (below - above) / 2
    half_width, half_height = who.mouth_width * _WIDEST, (above + below) / 2
    turn = np.abs(np.sin(tilt))
    moved = 0.5 + x - np.sin(tilt) * (centre - 0.95), 0.95 + np.cos(tilt) * (centre - 0.95)
    size = half_width + half_height * turn, half_height + half_width * turn
    return np.stack([*moved, *size], axis=1).astype(np.float32)
