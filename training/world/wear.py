"""What is worn or grown on a head: ears and ear-rings, beards, glasses, hats."""

from __future__ import annotations

import numpy as np

from .colours import Colour, mix
from .features import EYE_Y, draw_contour
from .hair import CUTS
from .head import Head
from .lips import JAW_DROP
from .person import Person
from .styles import dark_side, ink, tinted
from .surface import Surface, Texture, ring

_GOLD = (236, 190, 84)


def draw_ear(surface: Surface, who: Person, head: Head, skin: Texture, sign: int) -> None:
    """One ear: a rim at the side of the head from the front, a whole shell when it is turned to us."""
    w = head.shape.width
    x, y = head.at(sign * 0.99 * w, 0.008, -0.06)
    seen = max(0.0, head.faces(sign * np.pi / 2))
    half = 0.030 + 0.022 * seen
    points = np.stack(ring(x - sign * 0.012 * seen, y, half, 0.054), 1)
    surface.fill(points, skin)
    if who.style.outline:
        draw_contour(surface, who, points, closed=True)
    else:
        surface.stroke(points, dark_side(who.style, who.skin), 0.004, closed=True)
    inner = np.stack(ring(x - sign * 0.004, y + 0.004, 0.5 * half, 0.026), 1)
    surface.fill(inner, mix(who.skin, dark_side(who.style, dark_side(who.style, who.skin)), 0.45))
    if who.earrings:
        drop = np.stack(ring(x, y + 0.066, 0.013, 0.013), 1)
        surface.fill(drop, _GOLD)
        surface.fill(np.stack(ring(x - 0.004, y + 0.062, 0.004, 0.004), 1), (255, 250, 230))


def ear_shows(who: Person) -> bool:
    """Whether hair and hat leave the ears free."""
    cut = CUTS.get(who.hair_style)
    return not (cut is not None and cut.covers_ears) and who.hat != "headphones"


def draw_beard(surface: Surface, who: Person, head: Head, hair: Texture, *, opening: float) -> None:
    """Hair around the mouth, moving with the jaw. opening: how far the mouth is open, in [0, 1]."""
    if who.beard == "none":
        return
    h, drop = head.shape.height, JAW_DROP * opening
    if who.beard in ("stubble", "full"):
        across = np.linspace(-1, 1, 41)
        inward = np.clip((1 - np.abs(across)) / 0.45, 0, 1) ** 0.7
        top = head.on_face(
            0.985 * head.shape.width * across, 0.03 * h + (who.mouth_y - 0.062 - 0.03 * h) * inward, 0.01
        )
        right, left, ys = head.sides(np.linspace(0.05, 1.0, 21), 0.035 if who.beard == "full" else 0.0)
        jaw = np.concatenate([np.stack([right, ys], 1), np.stack([left, ys], 1)[::-1]])
        surface.fill(np.concatenate([top, jaw]), hair, 0.30 if who.beard == "stubble" else 0.96)
    if who.beard == "goatee":
        across = np.linspace(-1, 1, 17)
        low = h * 1.01 + drop - 0.035 * across**2
        high = who.mouth_y + 0.036 + 0.9 * drop + 0.012 * (1 - across**2)
        upper, lower = (head.on_face(0.070 * across, ys, 0.04) for ys in (high, low))
        surface.fill(np.concatenate([upper, lower[::-1]]), hair)
    if who.beard in ("moustache", "goatee", "full"):
        _draw_moustache(surface, head, hair, y=who.mouth_y, opening=opening)


def _draw_moustache(surface: Surface, head: Head, hair: Texture, *, y: float, opening: float) -> None:
    across = np.linspace(-1, 1, 21)
    base = y - 0.026 - 0.034 * opening
    upper = base - 0.032 * (1 - np.abs(across) ** 1.5) + 0.012 * across**2
    lower = base - 0.004 + 0.012 * np.abs(across) - 0.010 * np.exp(-((across / 0.12) ** 2))
    xs = 0.108 * across
    surface.fill(
        np.concatenate([head.on_face(xs, upper, 0.07), head.on_face(xs, lower + 0.004, 0.07)[::-1]]), hair
    )


def draw_bars(surface: Surface, who: Person, head: Head) -> None:
    """The bars of glasses, from the lenses to the ears."""
    if who.glasses == "none":
        return
    for sign in (-1, 1):
        if head.faces(sign * 1.3) > 0.2:
            xs = sign * np.array([who.eye_spacing + 0.086, 0.985 * head.shape.width])
            bar = head.on_face(xs, np.array([EYE_Y - 0.006, EYE_Y]), np.array([0.10, 0.0]))
            surface.stroke(bar, _frame(who), 0.010)


def _frame(who: Person) -> Colour:
    return (56, 42, 48) if who.glasses == "square" else mix(_GOLD, (120, 70, 50), 0.45)


def draw_glasses(surface: Surface, who: Person, head: Head) -> None:
    """The frame before the eyes, and a glint on the glass."""
    if who.glasses == "none":
        return
    xs, ys = ring(0, 0, 1, 1)
    if who.glasses == "square":
        xs, ys = np.sign(xs) * np.abs(xs) ** 0.5, np.sign(ys) * np.abs(ys) ** 0.55
    for sign in (-1, 1):
        if head.faces(sign * 0.75) < -0.12:
            continue
        x = sign * (who.eye_spacing + 0.004)
        lens = head.on_face(x + 0.084 * xs, EYE_Y + 0.004 + 0.066 * ys, 0.16)
        surface.fill(lens, (255, 255, 255), 0.10)
        surface.stroke(lens, _frame(who), 0.0105, closed=True)
        glint = head.on_face(x + np.array([-0.05, -0.02]), EYE_Y + np.array([0.0, -0.045]), 0.16)
        surface.stroke(glint, (255, 255, 255), 0.008, 0.6)
    nose = head.on_face(np.array([-0.03, 0.0, 0.03]), EYE_Y + np.array([0.0, -0.008, 0.0]), 0.16)
    surface.stroke(nose, _frame(who), 0.009)


def draw_hat(surface: Surface, who: Person, head: Head, cloth: Texture) -> None:
    """Beanie, cap, band or headphones, over the hair."""
    if who.hat == "none":
        return
    accent = tinted(who.style, who.palette[3])
    if who.hat == "headphones":
        _draw_headphones(surface, who, head, accent)
        return
    swell = (CUTS[who.hair_style].swell if who.hair_style in CUTS else 0.02) + 0.05
    low = {"beanie": -0.42, "cap": -0.46, "band": -0.50}[who.hat]
    rim = _rim(head, low, swell)
    if who.hat == "band":
        surface.fill(np.concatenate([rim, _rim(head, low - 0.17, swell)[::-1]]), accent)
        return
    right, left, ys = head.sides(np.linspace(low, -1, 21), swell + 0.03)
    dome = np.concatenate([rim, np.stack([left, ys], 1), np.stack([right, ys], 1)[::-1]])
    surface.fill(dome, cloth)
    draw_contour(surface, who, dome, closed=True)
    if who.hat == "beanie":
        fold = np.concatenate([rim, _rim(head, low - 0.22, swell + 0.02)[::-1]])
        surface.fill(fold, dark_side(who.style, accent))
        draw_contour(surface, who, fold, closed=True)
        return
    front = np.linspace(-1.15, 1.15, 25)
    reach = np.cos(front * np.pi / 2.3) ** 0.6
    edge = head.around(front, np.full(25, low - 0.10), 1 + swell)
    visor = head.around(front, low + 0.03 + 0.14 * reach, 1.05 + swell + 0.26 * reach)
    surface.fill(np.concatenate([edge, visor[::-1]]), accent)
    surface.stroke(visor, ink(who.style, accent), 0.007)


def _rim(head: Head, level: float, swell: float) -> np.ndarray:
    """The near edge of a hat, from right to left, sagging a little at the front as a circle seen from above."""
    across = np.linspace(1, -1, 25)
    right, left, ys = head.sides(np.array([level]), swell)
    middle, half = (right[0] + left[0]) / 2, (right[0] - left[0]) / 2
    return np.stack([middle + half * across, ys[0] + 0.022 * np.sqrt(1 - across**2)], 1)


def _draw_headphones(surface: Surface, who: Person, head: Head, accent: Colour) -> None:
    swell = (CUTS[who.hair_style].swell if who.hair_style in CUTS else 0.02) + 0.04
    angle = np.linspace(0.05 * np.pi, 0.95 * np.pi, 25)
    w, h = head.shape.width * (1 + swell), head.shape.height + swell * head.shape.width
    arc = np.array([head.at(w * np.cos(a), 0.02 - h * np.sin(a), -0.10) for a in angle])
    shown = arc[head.turn * np.cos(angle) < 0.12]  # the far half is behind the crown
    surface.stroke(shown, dark_side(who.style, accent), 0.030)
    for sign in (-1, 1):
        if head.faces(sign * 1.5) < -0.35:
            continue
        x, y = head.at(sign * 1.04 * head.shape.width, 0.015, -0.06)
        seen = max(0.0, head.faces(sign * np.pi / 2))
        cup = np.stack(ring(x, y, 0.040 + 0.035 * seen, 0.078), 1)
        surface.fill(cup, accent)
        draw_contour(surface, who, cup, closed=True)
        surface.fill(np.stack(ring(x, y, 0.020 + 0.025 * seen, 0.05), 1), dark_side(who.style, accent))
