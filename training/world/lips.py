"""The mouth of version 1: lips with volume, rows of teeth, a tongue, and the box that holds it at its widest."""

from __future__ import annotations

from collections.abc import Callable
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
Between = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _curves(who: Person, shape: MouthShape, smile: float) -> Curves:
    """The mouth from the front, around the centre of the head: half widths and edges of the lips."""
    half = who.mouth_width * (0.70 + 0.38 * shape.width) * (1 - 0.40 * shape.round)
    half = half * (1 + 0.08 * smile) * (1 - 0.12 * shape.open)
    opening = _MAX_OPENING * shape.open * (1 - 0.12 * shape.round)
    arch = 1 - np.abs(_ACROSS) ** (2.1 + 0.6 * shape.width + 0.5 * shape.open)
    y = who.mouth_y - (0.007 + 0.020 * smile) * _ACROSS**2
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
    arch, thick, lift = c["arch"], c["thick"], 0.05 * c["arch"]

    def on_face(xs: np.ndarray, ys: np.ndarray, rise: np.ndarray | float = lift) -> np.ndarray:
        return head.on_face(xs, ys, rise)

    def between(xs: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        return np.concatenate([on_face(xs, upper), on_face(xs, lower)[::-1]])

    dark = mix(shade(who.lip, 0.42), _DARK_CAVITY, 0.3)
    outer = between(c["xs"], c["upper_out"], c["lower_out"])
    surface.fill(outer, shade(who.lip, 0.90))
    if who.style.outline:
        surface.stroke(
            outer, mix(ink(who.style, who.lip), who.lip, 0.25), 0.6 * who.style.outline, closed=True
        )
    lower_top = c["lower_in"] + 0.1 * thick * arch
    surface.fill(between(0.97 * c["xs"], lower_top, c["lower_out"] - 0.1 * thick), shade(who.lip, 1.12))
    if shape.open < 0.03:
        surface.stroke(on_face(c["inner"], c["middle"] + 0.004 * arch), dark, 0.0045 + 0.0065 * arch)
    else:
        _draw_inside(surface, who, between, c, shape)
    gloss = np.abs(_ACROSS) < 0.5
    shine = c["lower_in"] + (0.42 + 0.1 * np.cos(3 * _ACROSS)) * thick
    surface.stroke(on_face(0.8 * c["xs"], shine)[gloss], mix(who.lip, (255, 246, 240), 0.62),
                   0.22 * thick * (1 - (_ACROSS[gloss] / 0.5) ** 2), 0.75)  # fmt: skip
    for sign in (-1, 1):
        corner = sign * c["half"] * np.array([0.93, 1.06])
        at = float(c["middle"][0]) + np.array([0.0, -0.002 - 0.006 * smile])
        surface.stroke(head.on_face(corner, at), dark, np.array([0.007, 0.002]), 0.8)


def _draw_inside(surface: Surface, who: Person, between: Between, c: Curves, shape: MouthShape) -> None:
    """Cavity, tongue and teeth, each cut to the opening."""
    inner, upper, lower = c["inner"], c["upper_in"], c["lower_in"]
    hole = between(inner, upper, lower)
    surface.fill(hole, cavity(who))
    with surface.clipped(hole):
        if shape.tongue > 0.05:
            _draw_tongue(surface, between, c, shape)
        if shape.teeth > 0.05:
            _draw_teeth(surface, who, between, c, shape)


def _draw_tongue(surface: Surface, between: Between, c: Curves, shape: MouthShape) -> None:
    inner, lower = c["inner"], c["lower_in"]
    rise = shape.tongue * float(c["opening"]) * (0.52 + 0.3 * (1 - shape.open))
    top = np.max(lower) - rise * (1 - 0.6 * _ACROSS**2)
    surface.fill(between(0.84 * inner, top, np.maximum(lower, top) + 0.01), _TONGUE)
    middle = np.abs(_ACROSS) < 0.55
    gleam = between(0.8 * inner, top + 0.009, lower)[: len(inner)][middle]
    surface.stroke(gleam, mix(_TONGUE, (255, 206, 206), 0.5), 0.007, 0.7)


def _draw_teeth(surface: Surface, who: Person, between: Between, c: Curves, shape: MouthShape) -> None:
    """The upper row, hanging from the middle of the lip, and the lower one where the jaws are nearly closed."""
    inner, upper, lower, opening = c["inner"], c["upper_in"], c["lower_in"], float(c["opening"])
    white = (238, 232, 236) if who.style.name == "night" else _TEETH
    edge = np.full_like(inner, np.min(upper) + min(0.040 * shape.teeth, 0.62 * opening)) - 0.004 * _ACROSS**2
    surface.fill(between(inner, upper - 0.006, np.maximum(edge, upper - 0.005)), white)
    surface.fill(between(inner, upper - 0.006, upper + 0.005), (120, 84, 104), 0.40)
    if shape.open < 0.5 and shape.teeth > 0.55:
        row = np.full_like(inner, np.max(lower) - 0.30 * opening)
        surface.fill(
            between(0.8 * inner, np.minimum(row, lower + 0.005), lower + 0.006),
            mix(white, (196, 180, 190), 0.35),
        )
    if shape.teeth > 0.35:
        for place in (5, 9, 13, 17, 21):
            gap = between(inner, upper, edge)[[place, -1 - place]]
            surface.stroke(gap, (188, 166, 174), 0.003, 0.55)


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
