"""Drawing one portrait in one pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas
from .colours import mix, shade
from .identity import Identity
from .mouth import draw_mouth
from .visemes import MouthShape

_LINE = (44, 34, 40)
_WHITE = (248, 248, 250)


@dataclass(frozen=True)
class Pose:
    """Where the head is and what the eyes do: shifts as picture fractions, tilt in radians, eyes in [0, 1]."""

    x: float = 0.0
    y: float = 0.0
    tilt: float = 0.0
    eyes_open: float = 1.0
    brow: float = 0.0
    gaze: float = 0.0


NEUTRAL_MOUTH = MouthShape(open=0.0, width=0.45, round=0.0, teeth=0.0, tongue=0.0)


def draw_face(who: Identity, pose: Pose, mouth: MouthShape, *, side: int) -> np.ndarray:
    """Portrait -> (H, W, 3) uint8."""
    canvas = Canvas(side, who.background)
    x, y = 0.5 + pose.x, 0.50 + pose.y
    canvas.set_pose(tilt=pose.tilt * 0.3, pivot=(0.5, 1.0))
    _draw_body(canvas, who, x=0.5 + 0.4 * pose.x)
    canvas.set_pose(tilt=pose.tilt, pivot=(x, 0.95))
    _draw_back_hair(canvas, who, x=x, y=y)
    _draw_head(canvas, who, x=x, y=y, jaw=mouth.open)
    _draw_front_hair(canvas, who, x=x, y=y)
    for side_sign in (-1, 1):
        _draw_eye(canvas, who, pose, x=x + side_sign * who.eye_spacing, y=y - 0.065)
        _draw_brow(canvas, who, pose, x=x + side_sign * who.eye_spacing, y=y - 0.065, sign=side_sign)
    if who.glasses:
        _draw_glasses(canvas, who, x=x, y=y - 0.065)
    _draw_nose(canvas, who, x=x, y=y)
    draw_mouth(canvas, who, mouth, x=x, y=y + who.mouth_y - 0.5)
    return np.asarray(canvas.picture())


def _draw_body(canvas: Canvas, who: Identity, *, x: float) -> None:
    neck = shade(who.skin, 0.86)
    canvas.ellipse(x, 1.10, 0.44, 0.20, who.clothes)
    canvas.polygon([(x - 0.11, 0.75), (x + 0.11, 0.75), (x + 0.12, 0.96), (x, 1.0), (x - 0.12, 0.96)], neck)
    if who.collar:
        for sign in (-1, 1):
            points = [(x + sign * 0.13, 0.91), (x + sign * 0.02, 1.02), (x + sign * 0.20, 1.02)]
            canvas.polygon(points, shade(who.clothes, 0.72))


def _draw_back_hair(canvas: Canvas, who: Identity, *, x: float, y: float) -> None:
    w, h = who.face_width, who.face_height
    if who.hair_style == "bald":
        return
    if who.hair_style == "bun":
        canvas.ellipse(x, y - h - 0.07, 0.11, 0.09, who.hair)
    canvas.ellipse(x, y - 0.10, w + 0.045, h - 0.01, who.hair)
    lowest = {"long": 0.42, "bob": 0.20, "curly": 0.10}.get(who.hair_style)
    if lowest is not None:
        outline = [(x - w - 0.045, y - 0.1), (x + w + 0.045, y - 0.1)]
        outline += [(x + w + 0.035, y + lowest), (x - w - 0.035, y + lowest)]
        canvas.polygon(outline, who.hair)
    if who.hair_style == "curly":
        for angle in np.linspace(0.95 * np.pi, 2.05 * np.pi, 9):
            canvas.ellipse(
                x + (w + 0.02) * np.cos(angle), y - 0.1 + h * 0.93 * np.sin(angle), 0.08, 0.08, who.hair
            )


def _draw_head(canvas: Canvas, who: Identity, *, x: float, y: float, jaw: float) -> None:
    w, h = who.face_width, who.face_height
    for sign in (-1, 1):
        canvas.ellipse(x + sign * w, y + 0.01, 0.04, 0.065, shade(who.skin, 0.92))
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    below = np.sin(angle) > 0
    xs = x + w * np.cos(angle) * np.where(below, 1 - 0.13 * np.sin(angle) ** 2, 1.0)
    ys = y + np.sin(angle) * np.where(below, h + 0.022 * jaw, h)
    canvas.polygon(list(zip(xs.tolist(), ys.tolist(), strict=True)), who.skin)
    for sign in (-1, 1):
        canvas.ellipse(x + sign * 0.19, y + 0.10, 0.055, 0.035, mix(who.skin, (232, 110, 100), 0.22))


def _draw_front_hair(canvas: Canvas, who: Identity, *, x: float, y: float) -> None:
    if who.hair_style == "bald":
        return
    w, h = who.face_width, who.face_height
    parting = {"short": 0.0, "long": -0.25, "bob": 0.3, "curly": 0.0, "bun": 0.1}[who.hair_style]
    angle = np.linspace(np.pi * 1.02, np.pi * 1.98, 24)
    top = [(x + (w + 0.02) * np.cos(a), y - 0.02 + (h + 0.02) * np.sin(a)) for a in angle]
    across = np.linspace(1, -1, 16)
    low = {"short": 0.72, "long": 0.62, "bob": 0.55, "curly": 0.62, "bun": 0.78}[who.hair_style]
    fringe = [(x + w * 0.98 * t, y - h * (low - 0.22 * (t - parting) ** 2)) for t in across]
    canvas.polygon(top + fringe, shade(who.hair, 1.06))


def _draw_eye(canvas: Canvas, who: Identity, pose: Pose, *, x: float, y: float) -> None:
    width, height = who.eye_size, who.eye_size * 0.74 * pose.eyes_open
    lid = shade(who.skin, 0.84)
    if pose.eyes_open < 0.25:
        canvas.ellipse(x, y, width, who.eye_size * 0.45, lid)
        arc = np.linspace(-1, 1, 9)
        points = [(x + width * t, y + 0.026 * (1 - t * t)) for t in arc]
        canvas.line(points, _LINE, 0.016)
        return
    canvas.ellipse(x, y - 0.012, width * 1.06, height + 0.012, _LINE)
    canvas.ellipse(x, y, width, height, _WHITE)
    look = x + 0.02 * pose.gaze
    iris = 0.60 * who.eye_size
    canvas.ellipse(look, y, iris, min(iris, height), who.iris)
    canvas.ellipse(look, y, 0.55 * iris, min(0.55 * iris, height), (16, 12, 16))
    if height > 0.035:
        canvas.ellipse(look + 0.016, y - 0.016, 0.012, 0.012, (255, 255, 255))


def _draw_brow(canvas: Canvas, who: Identity, pose: Pose, *, x: float, y: float, sign: int) -> None:
    height = y - 0.092 - 0.025 * pose.brow
    arc = np.linspace(-1, 1, 9)
    colour = mix(shade(who.hair, 0.7), _LINE, 0.35)
    points = [(x + 0.078 * t, height - 0.014 * (1 - t * t) + 0.008 * sign * t) for t in arc]
    canvas.line(points, colour, who.brow_thickness)


def _draw_glasses(canvas: Canvas, who: Identity, *, x: float, y: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 33)
    for sign in (-1, 1):
        cx = x + sign * who.eye_spacing
        ring = [(cx + 0.095 * np.cos(a), y + 0.08 * np.sin(a)) for a in angle]
        canvas.line(ring, _LINE, 0.013)
    canvas.line([(x - who.eye_spacing + 0.095, y), (x + who.eye_spacing - 0.095, y)], _LINE, 0.013)


def _draw_nose(canvas: Canvas, who: Identity, *, x: float, y: float) -> None:
    tip = y + 0.01 + who.nose_length * 0.9
    points = [
        (x - 0.028, tip - 0.008),
        (x - 0.012, tip + 0.006),
        (x + 0.012, tip + 0.006),
        (x + 0.028, tip - 0.008),
    ]
    canvas.line(points, shade(who.skin, 0.70), 0.013)
