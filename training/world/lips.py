"""The mouth: lips with volume, rows of teeth, a tongue, and the box that holds it at its widest."""

from __future__ import annotations

from typing import Any

import numpy as np

from .colours import Colour, mix, shade
from .head import Head
from .person import Person
from .styles import ink
from .surface import Surface
from .visemes import MouthShape

JAW_DROP = 0.046  # of the chin at full opening, as a picture fraction
_MAX_OPENING = 0.128
_UPPER_SHARE = 0.30  # of the opening that lifts the upper lip; the jaw takes the rest
_ACROSS = np.linspace(-1, 1, 27)
_CAVITY, _TEETH, _TONGUE = (62, 12, 24), (252, 250, 246), (224, 98, 108)
_DARK_CAVITY = (34, 6, 14)

Curves = dict[str, Any]


def _curves(who: Person, shape: MouthShape, smile: float) -> Curves:
    """The mouth from the front, around the centre of the head: half widths and edges of the lips."""
    half = who.mouth_width * (0.70 + 0.38 * shape.width) * (1 - 0.40 * shape.round)
    half = half * (1 + 0.08 * smile) * (1 - 0.12 * shape.open)
    opening = _MAX_OPENING * shape.open * (1 - 0.12 * shape.round)
    arch = 1 - np.abs(_ACROSS) ** (2.1 + 0.6 * shape.width + 0.5 * shape.open)
    y = who.mouth_y - (0.011 + 0.020 * smile) * _ACROSS**2
    thick = who.lip_thickness * (1 + 0.40 * shape.round)
    bow = 1 - 0.34 * np.exp(-((_ACROSS / 0.15) ** 2))
    above, below = _UPPER_SHARE * opening, (1 - _UPPER_SHARE) * opening
    return {
        "xs": half * _ACROSS, "inner": half * (0.93 + 0.05 * shape.round) * _ACROSS, "middle": y,
        "upper_in": y - above * arch, "lower_in": y + below * arch,
        "upper_out": y - (above + thick) * arch**0.75 * bow, "lower_out": y + (below + 1.2 * thick) * arch**0.75,
        "arch": arch, "opening": opening, "thick": thick, "half": half,
    }  # fmt: skip


def draw_lips(surface: Surface, who: Person, head: Head, shape: MouthShape, *, smile: float) -> None:
    """Draw the mouth on the turned face."""
    c = _curves(who, shape, smile)
    xs, arch, thick = c["xs"], c["arch"], c["thick"]
    shine = c["lower_in"] + (0.42 + 0.1 * np.cos(3 * _ACROSS)) * thick
    top, bottom, low_top, low_bottom, line, gloss = _rows(
        head, c, (xs, c["upper_out"]), (xs, c["lower_out"]), (0.97 * xs, c["lower_in"] + 0.1 * thick * arch),
        (0.97 * xs, c["lower_out"] - 0.1 * thick), (c["inner"], c["middle"] + 0.004 * arch), (0.8 * xs, shine),
    )  # fmt: skip
    dark = mix(shade(who.lip, 0.42), _DARK_CAVITY, 0.3)
    outer = np.concatenate([top, bottom[::-1]])
    surface.fill(outer, shade(who.lip, 0.90))
    if who.style.outline:
        surface.stroke(
            outer, mix(ink(who.style, who.lip), who.lip, 0.25), 0.6 * who.style.outline, closed=True
        )
    light = shade(who.lip, 1.12)
    surface.fill(np.concatenate([low_top, low_bottom[::-1]]), light)
    if shape.open < 0.03:
        surface.stroke(line, dark, 0.0045 + 0.0065 * arch)
    else:
        _draw_inside(surface, who, head, c, shape)
    middle = np.abs(_ACROSS) < 0.5
    surface.stroke(
        gloss[middle], mix(light, (255, 246, 240), 0.48), 0.22 * thick * (1 - (_ACROSS[middle] / 0.5) ** 2)
    )
    for sign in (-1, 1):
        corner = sign * c["half"] * np.array([0.93, 1.06])
        at = float(c["middle"][0]) + np.array([0.0, -0.002 - 0.006 * smile])
        surface.stroke(head.on_face(corner, at), mix(who.skin, dark, 0.8), np.array([0.007, 0.002]))


def _rows(head: Head, c: Curves, *curves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Curves from the front -> (rows, n, 2) on the turned face, a little before it in the middle."""
    xs, ys = (np.stack(part) for part in zip(*curves, strict=True))
    return head.on_face(xs, ys, 0.05 * c["arch"])


def _draw_inside(surface: Surface, who: Person, head: Head, c: Curves, shape: MouthShape) -> None:
    """Cavity, tongue and teeth; what would pass the lips is bent back to them."""
    inner, upper, lower, opening = c["inner"], c["upper_in"], c["lower_in"], float(c["opening"])
    white = (238, 232, 236) if who.style.name == "night" else _TEETH
    rise = shape.tongue * opening * (0.52 + 0.3 * (1 - shape.open))
    tongue = np.where(np.abs(_ACROSS) < 0.86, np.max(lower) - rise * (1 - 0.6 * _ACROSS**2), lower)
    edge = np.min(upper) + min(0.040 * shape.teeth, 0.62 * opening) - 0.004 * _ACROSS**2
    below = np.max(lower) - 0.30 * opening
    ys = [tongue, tongue + 0.009, edge, upper + 0.005, below + 0 * _ACROSS]
    top, bottom, tongue_top, gleam, teeth, shadow, lower_teeth = _rows(
        head, c, (inner, upper), (inner, lower), *((inner, np.clip(y, upper, lower)) for y in ys)
    )
    surface.fill(np.concatenate([top, bottom[::-1]]), cavity(who))
    if shape.tongue > 0.05:
        surface.fill(np.concatenate([tongue_top, bottom[::-1]]), _TONGUE)
        surface.stroke(gleam[8:-8], mix(_TONGUE, (255, 206, 206), 0.4), 0.007)
    if shape.teeth > 0.05:
        surface.fill(np.concatenate([top, teeth[::-1]]), white)
        surface.fill(np.concatenate([top, shadow[::-1]]), mix(white, (120, 84, 104), 0.40))
        if shape.open < 0.5 and shape.teeth > 0.55:
            surface.fill(np.concatenate([lower_teeth, bottom[::-1]])[2:-2], mix(white, (196, 180, 190), 0.35))
        if shape.teeth > 0.35:
            for place in (5, 9, 13, 17, 21):
                surface.stroke(np.stack([top[place], teeth[place]]), mix(white, (188, 166, 174), 0.55), 0.003)


def cavity(who: Person) -> Colour:
    """The dark of an open mouth: darker still behind dark skin, so that it can be read there."""
    return _DARK_CAVITY if sum(who.skin) / 3 < 135 else _CAVITY


def mouth_place(surface: Surface, who: Person, head: Head) -> tuple[float, float, float, float]:
    """Box of the widest opening in this pose: centre x, y and half width, half height, as fractions of the side.

    head: with its jaw at JAW_DROP.
    """
    points = []
    for shape in (
        MouthShape(1.0, 0.55, 0.0, 0.5, 0.5),
        MouthShape(0.0, 1.0, 0.0, 0.0, 0.0),
        MouthShape(1.0, 1.0, 0.0, 0.0, 0.0),
    ):
        c = _curves(who, shape, 1.0)
        points += [
            head.on_face(1.07 * c["xs"], c[edge], 0.05 * c["arch"]) for edge in ("upper_out", "lower_out")
        ]
    placed = surface.placed(np.concatenate(points))
    low, high = placed.min(axis=0), placed.max(axis=0)
    (x, y), (half_width, half_height) = (low + high) / 2, (high - low) / 2
    return float(x), float(y), float(half_width), float(half_height)
