"""Eyes, brows, nose and cheeks."""

from __future__ import annotations

import numpy as np

from .colours import mix, shade
from .head import Head
from .person import Person
from .pose import Pose
from .styles import dark_side, ink
from .surface import Surface, Texture, ring

EYE_Y = -0.020
_ALONG = np.linspace(-1, 1, 15)
_WHITE = (250, 249, 250)
_LASH = (40, 28, 36)
_SOCKET = -0.05  # eyes lie this much deeper than the face, in half widths


def draw_cheeks(surface: Surface, who: Person, head: Head, *, smile: float) -> None:
    """Blush, freckles, and the soft shadow of the eye sockets."""
    rosy = mix(who.skin, (236, 84, 84), 0.62)
    for sign in (-1, 1):
        facing = head.faces(sign * 0.62)
        if facing < 0.3:
            continue
        ((x, y),) = head.on_face(np.array([sign * 0.138]), np.array([0.102 - 0.008 * smile]))
        surface.soft(x, y, 0.075 * facing**0.5, 0.055, rosy, who.blush + 0.2 * smile)
    if who.freckles:
        spots = np.random.default_rng(who.grain).uniform(-1, 1, (18, 2))
        xs = np.sign(spots[:, 0]) * (0.05 + 0.11 * np.abs(spots[:, 0]))
        brown = mix(who.skin, mix(shade(who.skin, 0.66), (150, 70, 40), 0.4), 0.6)
        for x, y in head.on_face(xs, 0.085 + 0.028 * spots[:, 1]):
            surface.fill(np.stack(ring(x, y, 0.0042, 0.0042), 1), brown)


def draw_eyes(surface: Surface, who: Person, head: Head, pose: Pose) -> None:
    """Both eyes; the one that turns away narrows with the face and is left out where nothing of it is seen."""
    for sign in (-1, 1):
        xs = sign * who.eye_spacing + who.eye_width * _ALONG
        corners = head.on_face(xs[[0, -1]], np.full(2, EYE_Y), _SOCKET)
        if corners[1, 0] - corners[0, 0] < 0.018:
            continue
        _draw_eye(surface, who, head, pose, sign)


def _lids(who: Person, openness: float, sign: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights along an eye: the upper lid wide open, the upper lid now, and the lower lid."""
    outer = sign * _ALONG
    lower = 0.60 * who.eye_height * (1 - np.abs(_ALONG) ** 2.2) - 0.004 * outer
    high = -who.eye_height * (1 - np.abs(_ALONG + 0.12 * sign) ** 2.3).clip(0) - 0.004 * outer
    return high, lower + (high - lower) * openness + 0.010 * (1 - min(openness, 1)) * (1 - _ALONG**2), lower


def _draw_eye(surface: Surface, who: Person, head: Head, pose: Pose, sign: int) -> None:
    x, openness = sign * who.eye_spacing, pose.eyes_open
    xs = x + who.eye_width * _ALONG
    high, upper, lower = (EYE_Y + curve for curve in _lids(who, openness, sign))
    rows = np.stack(
        [high - 0.013, np.maximum(upper, high), upper, lower, np.minimum(upper + 0.011, lower), lower + 0.002]
    )
    fold, lid_edge, top, low, shadow, lash = head.on_face(np.broadcast_to(xs, rows.shape), rows, _SOCKET)
    dark = dark_side(who.style, who.skin)
    lid = mix(who.skin, mix(dark, (150, 84, 96), 0.25), 0.55 if who.lashes else 0.35)
    surface.fill(np.concatenate([fold, lid_edge[::-1]]), lid)
    if openness > 0.1:
        white = (226, 224, 238) if who.style.name == "night" else _WHITE
        surface.fill(np.concatenate([top, low[::-1]]), white)
        surface.fill(np.concatenate([top, shadow[::-1]]), mix(white, (60, 50, 90), 0.30))
        _draw_iris(surface, who, head, x + 0.020 * pose.gaze, xs, upper, lower)
    taper = np.clip(1 - np.abs(_ALONG - 0.25 * sign) ** 2 * 0.55, 0.2, 1)
    surface.stroke(top, _LASH, (0.0125 if who.lashes else 0.0095) * taper)
    if who.lashes:
        _draw_wing(surface, head, xs, upper, sign)
    surface.stroke(fold[3:-3], mix(lid, dark_side(who.style, dark), 0.7), 0.0045)
    surface.stroke(lash[3:-3], mix(_LASH, who.skin, 0.5), 0.0045)


def _draw_wing(surface: Surface, head: Head, xs: np.ndarray, upper: np.ndarray, sign: int) -> None:
    """Lashes that end in a wing at the outer corner."""
    end = -1 if sign > 0 else 0
    tip = np.array([xs[end] - 0.012 * sign, xs[end] + 0.004 * sign, xs[end] + 0.013 * sign])
    rise = np.array([upper[end] - 0.006, upper[end] - 0.004, upper[end] - 0.013])
    surface.stroke(head.on_face(tip, rise, _SOCKET), _LASH, np.array([0.010, 0.008, 0.002]))


def _draw_iris(
    surface: Surface,
    who: Person,
    head: Head,
    x: float,
    lid_xs: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
) -> None:
    """Rings of the iris, the pupil and two glints, as far as the lids leave them free."""
    radius, y = 0.92 * who.eye_height, EYE_Y - 0.12 * who.eye_height
    lamp = 1 if who.light.x > 0 else -1
    discs = (
        (0, 0, 1.0, shade(who.iris, 0.50)), (0, 0.06, 0.86, who.iris),
        (0, 0.42, 0.48, mix(who.iris, (255, 250, 220), 0.36)), (0, 0.02, 0.46, (18, 14, 22)),
        (0.34 * lamp, -0.34, 0.28, (255, 255, 255)), (-0.36 * lamp, 0.42, 0.14, mix(who.iris, (255, 255, 255), 0.85)),
    )  # fmt: skip
    circle_x, circle_y = ring(0, 0, 1, 1)
    xs = np.stack([x + radius * (dx + size * circle_x[::3]) for dx, _, size, _ in discs])
    ys = np.stack([y + radius * (dy + size * circle_y[::3]) for _, dy, size, _ in discs])
    xs = xs.clip(lid_xs[0], lid_xs[-1])
    ys = np.clip(ys, np.interp(xs, lid_xs, upper), np.interp(xs, lid_xs, lower))
    for points, (_, _, _, colour) in zip(head.on_face(xs, ys, _SOCKET), discs, strict=True):
        surface.fill(points, colour)


def draw_brows(surface: Surface, who: Person, head: Head, pose: Pose) -> None:
    """Both brows: thicker inside, thin at the tail."""
    colour = mix(shade(who.hair, 0.72), (48, 34, 38), 0.40)
    bright = sum(who.hair) > 520
    colour = mix(who.hair, (120, 90, 70), 0.55) if bright else colour
    for sign in (-1, 1):
        if head.faces(sign * 0.5) < 0.02:
            continue
        outer = sign * _ALONG
        xs = sign * (who.eye_spacing + 0.004) + 1.05 * who.eye_width * _ALONG
        ys = EYE_Y - 0.066 - 0.030 * pose.brow - 0.013 * (1 - (outer - 0.25) ** 2) + 0.004 * outer
        width = who.brow_width * np.clip(0.95 - 0.55 * (outer + 0.3).clip(0) ** 1.4, 0.15, 1)
        surface.stroke(head.on_face(xs, ys, 0.01), colour, width)


def draw_nose(surface: Surface, who: Person, head: Head, skin: Texture) -> None:
    """A bridge and a tip that stand out of the face, shaded on the side away from the lamp."""
    dark, size, away = dark_side(who.style, who.skin), who.nose, -1 if who.light.x > 0 else 1
    near = -1 if head.turn > 0 else 1
    deep = np.array([0.0, 0.05, 0.10, 0.21, 0.30, 0.26, 0.06]) * size
    ys = np.array([-0.030, 0.010, 0.045, 0.078, 0.096, 0.112, 0.120])
    ridge = head.on_face(np.zeros(7), ys, deep)
    wing = head.on_face(
        near * np.array([0.022, 0.036, 0.030, 0.012]), np.array([0.121, 0.106, 0.090, 0.030]), 0.03
    )
    turned = min(1.0, abs(head.turn) * 2)
    if turned > 0.1:
        surface.fill(np.concatenate([ridge, wing]), skin)
    side = head.on_face(away * np.array([0.014, 0.036, 0.020]), np.array([0.02, 0.106, 0.118]), 0.02)
    shaded = np.concatenate([ridge[1:6], side[::-1]])
    surface.fill(shaded, dark, 0.20 + 0.5 * min(1.0, who.style.depth / 0.34) * (1 - 0.4 * turned))
    under = head.on_face(np.array([-0.034, -0.020, 0.0, 0.020, 0.034]), np.array([0.106, 0.118, 0.121, 0.118, 0.106]),
                         np.array([0.02, 0.06, 0.14, 0.06, 0.02]))  # fmt: skip
    line = mix(who.skin, mix(shade(who.skin, 0.52), (96, 30, 40), 0.35), 0.85)
    surface.stroke(under, line, np.array([0.003, 0.008, 0.005, 0.008, 0.003]))
    tip_x, tip_y = ridge[4]
    lamp = mix(who.skin, who.style.lamp, 0.7)
    surface.soft(tip_x - 0.006 * away + 0.016 * near * turned, tip_y - 0.006, 0.015, 0.013, lamp, 0.7)
    if turned > 0.25:
        surface.stroke(ridge[1:], ink(who.style, who.skin), np.array([0.001, 0.003, 0.005, 0.007, 0.006, 0.003]),
                       min(1.0, 1.4 * turned - 0.3))  # fmt: skip


def draw_contour(surface: Surface, who: Person, points: np.ndarray, *, closed: bool = False) -> None:
    """The ink line around a shape, in styles that have one."""
    if who.style.outline:
        surface.stroke(points, ink(who.style, who.skin), who.style.outline, closed=closed)
