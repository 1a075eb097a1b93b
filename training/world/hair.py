"""Hair: what hangs behind the head, the cap on the skull, and locks before the ears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colours import mix
from .features import draw_contour
from .head import Head, band_of
from .person import Person
from .styles import dark_side, ink
from .surface import Surface, Texture, ring

_AZIMUTHS = np.radians([-180, -120, -95, -80, -62, -35, -12, 12, 35, 62, 80, 95, 120, 180])


@dataclass(frozen=True)
class Cut:
    """A hair style. swell: thickness on the skull; line: level of the hairline over half the head, from the nose to the
    nape, where hair that hangs over the ear reaches down; jag, waves: teeth of the hairline; length: level of the ends
    of what hangs behind, 0 none; spread: its half width; wavy: its edge; lock: how far locks before the ears hang.
    """

    swell: float
    line: tuple[float, float, float, float, float, float, float]
    jag: float = 0.0
    waves: int = 9
    length: float = 0.0
    spread: float = 1.1
    wavy: float = 0.0
    lock: float = 0.0
    covers_ears: bool = False


_SHORT = (-0.62, -0.60, -0.44, 0.02, -0.10, 0.38, 0.46)
_OPEN = (-0.66, -0.60, -0.38, 0.10, 0.30, 0.46, 0.52)
_OVER = (-0.62, -0.52, -0.26, 0.30, 0.62, 0.62, 0.62)
CUTS = {
    "crop": Cut(0.12, _SHORT, jag=0.035, waves=11),
    "quiff": Cut(0.16, (-0.66, -0.64, -0.50, -0.02, -0.14, 0.34, 0.42), jag=0.02, waves=7),
    "swept": Cut(0.14, (-0.46, -0.44, -0.34, 0.06, -0.08, 0.40, 0.48), jag=0.02, waves=6),
    "bangs": Cut(0.15, (-0.34, -0.33, -0.28, 0.16, 0.10, 0.46, 0.5), jag=0.022, waves=13),
    "bob": Cut(0.17, (-0.52, -0.44, -0.22, 0.35, 0.55, 0.6, 0.6), length=0.74, spread=1.16, lock=0.62,
               covers_ears=True),
    "long": Cut(0.15, _OVER, length=1.55, spread=1.18, lock=1.25, covers_ears=True),
    "wavy": Cut(0.19, _OVER, length=1.45, spread=1.30, wavy=0.07, lock=1.15, covers_ears=True),
    "curly": Cut(0.24, (-0.52, -0.46, -0.26, 0.18, 0.26, 0.5, 0.55), jag=0.05, waves=10, length=0.5, spread=1.3,
                 covers_ears=True),
    "afro": Cut(0.40, (-0.60, -0.58, -0.44, -0.02, 0.18, 0.42, 0.5), jag=0.02, waves=14, length=0.25, spread=1.36),
    "bun": Cut(0.10, (-0.66, -0.63, -0.48, 0.0, 0.06, 0.42, 0.5)),
    "ponytail": Cut(0.11, (-0.60, -0.55, -0.40, 0.04, 0.06, 0.42, 0.5)),
    "pigtails": Cut(0.12, _OPEN),
    "buzz": Cut(0.035, (-0.62, -0.60, -0.50, -0.02, -0.12, 0.36, 0.44)),
}  # fmt: skip


def draw_back_hair(surface: Surface, who: Person, head: Head, hair: Texture) -> None:
    """What is behind the head: long hair, buns, tails."""
    cut = CUTS.get(who.hair_style)
    if cut is None:
        return
    dark = dark_side(who.style, dark_side(who.style, who.hair))
    if who.hair_style == "bun":
        _ball(surface, who, head, hair, at=(0.0, -1.22, -0.35), radius=0.105)
    if who.hair_style == "ponytail":
        _tail(surface, who, head, hair, side=0.0)
    if who.hair_style == "pigtails":
        for sign in (-1, 1):
            _tail(surface, who, head, hair, side=float(sign))
    if cut.length:
        outline = _hanging(head, cut)
        surface.fill(outline, dark if who.hair_style in ("long", "bob", "wavy") else hair)
        draw_contour(surface, who, outline)
    if who.hair_style in ("curly", "afro"):
        _puffs(surface, who, head, hair, cut)


def _hanging(head: Head, cut: Cut) -> np.ndarray:
    """Outline of hair behind head and neck."""
    level = np.linspace(-0.6, cut.length, 17)
    w = head.shape.width
    half = w * (0.9 + (cut.spread - 0.9) * np.clip((level + 0.6) / 0.9, 0, 1) ** 0.8)
    half *= 1 - 0.10 * np.clip((level - 0.6) / 0.9, 0, 1)
    half = half + w * cut.wavy * np.sin(6.5 * level)
    half = half * np.sqrt(head.cos**2 + (0.85 * head.sin) ** 2)
    end = np.clip((level - cut.length + 0.12) / 0.12, 0, 1)
    half = half * (1 - 0.35 * end**2)
    x = head.x - 0.40 * w * head.sin * (0.6 + 0.4 * np.clip(level, 0, 1))
    return band_of(x + half, x - half, head.y + level * head.shape.height)


def _ball(
    surface: Surface, who: Person, head: Head, hair: Texture, *, at: tuple[float, float, float], radius: float
) -> None:
    x, level, depth = at
    px, py = head.at(x * head.shape.width, level * head.shape.height, depth)
    points = np.stack(ring(px, py, radius, 0.9 * radius), 1)
    surface.fill(points, hair)
    draw_contour(surface, who, points, closed=True)
    surface.stroke(
        np.stack(ring(px, py, 0.6 * radius, 0.5 * radius), 1)[2:12], dark_side(who.style, who.hair), 0.006
    )


def _tail(surface: Surface, who: Person, head: Head, hair: Texture, *, side: float) -> None:
    """A tail: from the back of the head, or from one side of it."""
    w, h = head.shape.width, head.shape.height
    along = np.linspace(0, 1, 14)
    start = head.at(side * 1.05 * w, -0.30 * h if side else -0.55 * h, -0.25 if side else -1.25)
    swing = np.sign(side) * 0.34 * w if side else -0.55 * w * head.sin
    xs = start[0] + swing * np.sin(along * 2.2)
    ys = start[1] + (0.50 if side else 0.50) * along**1.15
    half = (0.085 if side else 0.10) * np.sin(np.pi * (0.22 + 0.78 * along)) ** 0.7
    points = band_of(xs + half, xs - half, ys)
    surface.fill(points, hair)
    draw_contour(surface, who, points, closed=True)
    surface.stroke(
        np.stack([xs, ys], 1)[1:-1], dark_side(who.style, who.hair), 0.008 * (1 - along[1:-1]) + 0.001
    )


def _puffs(surface: Surface, who: Person, head: Head, hair: Texture, cut: Cut) -> None:
    """Round tufts along the silhouette."""
    swell = cut.swell * 0.75
    level = np.array([0.30, 0.08, -0.16, -0.40, -0.62, -0.82, -0.96])
    right, left, ys = head.sides(level, swell)
    size = head.shape.width * (0.26 if who.hair_style == "curly" else 0.30)
    centres = [(x, y) for side in (right, left) for x, y in zip(side, ys, strict=True)]
    centres.append((head.at(0, 0, -0.1)[0], float(ys[-1]) - 0.35 * size))
    radii = [size * (1 + 0.14 * np.sin(5.1 * index + who.parting)) for index in range(len(centres))]
    if who.style.outline:
        for (x, y), radius in zip(centres, radii, strict=True):
            wider = radius + 0.7 * who.style.outline
            surface.fill(np.stack(ring(x, y, wider, wider), 1), ink(who.style, who.hair))
    puffs = [np.stack(ring(x, y, radius, radius), 1) for (x, y), radius in zip(centres, radii, strict=True)]
    surface.fill_all(puffs, hair)


def hairline(who: Person, cut: Cut, azimuth: np.ndarray) -> np.ndarray:
    """Level of the hairline around the head."""
    half = np.array(cut.line)
    both = np.concatenate([half[::-1], half])
    level = np.interp(azimuth, _AZIMUTHS, both)
    front = np.clip(1 - np.abs(azimuth) / 1.25, 0, 1)
    if who.hair_style in ("swept", "long", "wavy", "bob", "ponytail", "crop", "bun"):
        depth = {"swept": 0.34, "crop": 0.06, "bun": 0.06, "ponytail": 0.14}.get(who.hair_style, 0.22)
        off = (azimuth - 0.9 * who.parting) * np.sign(who.parting)
        level = (
            level
            - front * depth * np.exp(-((off / 0.34) ** 2))
            + front * 0.45 * depth * (off < 0) * (off > -1.4)
        )
    zigzag = np.abs((azimuth * cut.waves / np.pi) % 1.0 - 0.5) * 2
    return level + cut.jag * (zigzag - 0.5) * (np.abs(azimuth) < 1.3)


def draw_cap(
    surface: Surface, who: Person, head: Head, hair: Texture, skin_shadow: tuple[int, int, int]
) -> None:
    """The hair on the skull down to the hairline, with its shadow on the forehead."""
    cut = CUTS.get(who.hair_style)
    if cut is None:
        return
    seen = np.arcsin(np.linspace(1, -1, 41)) - np.arctan2(head.sin, head.cos)
    seen = (seen + np.pi) % (2 * np.pi) - np.pi
    level = hairline(who, cut, seen)
    edge = head.around(seen, level, 1.0 + 0.35 * cut.swell * 0.5)
    soft = head.around(seen, level + 0.07, 1.0)
    surface.fill(np.concatenate([edge, soft[::-1]])[4:-4], skin_shadow, 0.55)
    crown = np.sin(np.linspace(-np.pi / 2, 0, 15))
    right = _side(head, cut, -1 + (level[0] + 1) * (crown + 1), right=True)
    left = _side(head, cut, -1 + (level[-1] + 1) * (crown + 1), right=False)
    cap = np.concatenate([right, edge, left[::-1]])
    if who.hair_style == "quiff":
        cap = _lifted(cap, head, who)
    surface.fill(cap, hair, 0.72 if who.hair_style == "buzz" else 1.0)
    _draw_strands(surface, who, head, seen, level, cut)
    draw_contour(surface, who, cap, closed=True)


def _side(head: Head, cut: Cut, level: np.ndarray, *, right: bool) -> np.ndarray:
    """One side of the swollen silhouette, from the crown down."""
    rights, lefts, ys = head.sides(level, cut.swell)
    return np.stack([rights if right else lefts, ys], 1)


def _lifted(cap: np.ndarray, head: Head, who: Person) -> np.ndarray:
    """Hair combed up and over at the front."""
    height = np.clip((head.y - 0.55 * head.shape.height - cap[:, 1]) / (0.6 * head.shape.height), 0, 1)
    across = (cap[:, 0] - head.x) / head.shape.width
    rise = (
        0.045
        * height**0.45
        * (1 - 0.5 * np.abs(across) ** 3)
        * (1 + 0.6 * np.sign(who.parting) * across)
        * (1 + 0.12 * np.sin(9 * across))
    )
    return cap - np.stack([-0.03 * height * np.sign(who.parting), rise], 1)


def _draw_strands(
    surface: Surface, who: Person, head: Head, seen: np.ndarray, level: np.ndarray, cut: Cut
) -> None:
    """A few lines along the hair, from the hairline towards the crown."""
    if who.hair_style in ("buzz", "afro"):
        return
    colour = mix(who.hair, dark_side(who.style, dark_side(who.style, who.hair)), 0.55)
    rise, roots = np.linspace(0.04, 0.72, 6), [9, 16, 24, 31]
    start, low = seen[roots, None], level[roots, None]
    azimuth = start + (0.9 * who.parting - start) * rise * 0.6 * (np.abs(start) < 1.6)
    for points in head.around(azimuth, low + (-1.02 - low).clip(-1) * rise, 1 + 0.5 * cut.swell):
        surface.stroke(points, colour, 0.007 * (1 - rise) + 0.001)


def draw_lock(surface: Surface, who: Person, head: Head, hair: Texture, sign: int) -> None:
    """Hair that falls from the temple before the ear; on the side that turns away it keeps to the outline."""
    cut = CUTS.get(who.hair_style)
    facing = head.faces(sign * 1.5)
    if cut is None or not cut.lock or facing < -0.24:
        return
    w, h = head.shape.width, head.shape.height
    along = np.linspace(0, 1, 17)
    level = -0.62 + (cut.lock + 0.62) * along
    wave = cut.wavy * np.sin(6.5 * level + 0.6)
    out = 0.93 + 0.22 * np.sin(np.pi * np.clip(along, 0, 0.75)) + wave + 0.5 * cut.swell
    into = out - (0.16 + 0.30 * np.sin(np.pi * np.clip(0.10 + along, 0, 1)) ** 1.2) + 0.1 * along
    into = np.where(along > 0.97, out - 0.02, into)
    deep = 0.42 - 0.75 * np.clip(along * 1.6, 0, 1)
    outer = head.beside(sign * w * out, level * h, deep - 0.25)
    inner = head.beside(sign * w * into, level * h, deep + 0.1)
    right, left, _ = head.sides(np.clip(level, -1, 1))
    limit = (right if sign > 0 else left) - sign * w * (0.30 + 1.2 * facing)
    if facing < 0.1:
        inner[:, 0] = np.maximum(inner[:, 0], limit) if sign > 0 else np.minimum(inner[:, 0], limit)
        outer[:, 0] = (
            np.maximum(outer[:, 0], inner[:, 0]) if sign > 0 else np.minimum(outer[:, 0], inner[:, 0])
        )
    points = np.concatenate([outer, inner[::-1]])
    surface.fill(points, hair)
    if who.style.outline:
        surface.stroke(points, ink(who.style, who.hair), 0.8 * who.style.outline)
    else:
        surface.stroke(inner[1:], dark_side(who.style, who.hair), 0.006)
    middle = 0.45 * outer + 0.55 * inner
    dark = dark_side(who.style, dark_side(who.style, who.hair))
    surface.stroke(middle[2:-1], mix(who.hair, dark, 0.5), 0.005)
