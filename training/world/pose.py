"""Where a head is and what its face does, besides the mouth."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Pose:
    """x, y: shift as picture fractions. tilt: radians. yaw: -1..1, to the picture's left or right, 1 a strong
    three-quarter turn. pitch: radians, a nod down is positive. eyes_open: 0..1.15, 1 at rest. brow: 0..1 raised.
    gaze: -1..1. smile: 0..1.
    """

    x: float = 0.0
    y: float = 0.0
    tilt: float = 0.0
    eyes_open: float = 1.0
    brow: float = 0.0
    gaze: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    smile: float = 0.0


POSE_NAMES = tuple(item.name for item in fields(Pose))
