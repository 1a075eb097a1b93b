"""What never moves by itself: the backdrop, and the shoulders with their clothes."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from .colours import Colour, mix, shade
from .person import Person
from .styles import dark_side, ink, rounded, tinted
from .surface import SUPERSAMPLING, Surface, Texture, band, ring

SHOULDER_Y = 0.885


def backdrop(who: Person, side: int) -> Image.Image:
    """The wall behind a person, three times the side large."""
    pixels = side * SUPERSAMPLING
    first, second = (tinted(who.style, colour) for colour in who.palette[:2])
    random = np.random.default_rng(who.grain)
    y, x = np.mgrid[0 : 1 : pixels // 3 * 1j, 0 : 1 : pixels // 3 * 1j]
    glow = {"glow": 1 - 1.5 * np.hypot(x - 0.5, y - 0.42), "disc": 0 * x}.get(
        who.backdrop, 1 - y + 0.35 * who.light.x * (x - 0.5)
    )
    share = np.clip(glow, 0, 1)[..., None] * (0.15 if who.style.name == "flat" else 0.9)
    sheet = np.asarray(first) * (1 - share) + np.asarray(second) * share
    image = Image.fromarray(sheet.astype(np.uint8)).resize((pixels, pixels), Image.Resampling.BILINEAR)
    surface = Surface(image)
    if who.backdrop == "disc":
        surface.fill(np.stack(ring(0.5, 0.46, 0.42, 0.42), 1), second)
    if who.backdrop == "diagonal":
        edge = np.array([[0.0, 0.75], [1.0, 0.28], [1.0, 1.0], [0.0, 1.0]])
        surface.fill(edge, mix(first, second, 0.25) if who.style.name != "flat" else second)
    if who.backdrop == "bokeh":
        for _ in range(9):
            spot, radius = random.uniform(0, 1, 2), random.uniform(0.03, 0.10)
            surface.fill(
                np.stack(ring(*spot, radius, radius), 1), mix(second, who.palette[3], random.random()), 0.35
            )
        surface.image = surface.image.filter(ImageFilter.GaussianBlur(pixels / 220))
    return surface.image


def shoulders(who: Person, side: int) -> Image.Image:
    """Neckless body, RGBA, three times the side large, wider than the picture would show when it sways."""
    pixels = side * SUPERSAMPLING
    random = np.random.default_rng(who.grain + 1)
    colour, accent = tinted(who.style, who.palette[2]), tinted(who.style, who.palette[3])
    cloth = rounded(
        who.style, who.light, colour, pixels=pixels, half_width=0.5, half_height=0.32, random=random
    )
    cloth = cloth.moved(0.5 * pixels, 1.08 * pixels)
    outline = _body(who)
    surface = Surface(Image.new("RGB", (pixels, pixels), colour))
    surface.fill(outline, cloth)
    with surface.clipped(outline):
        _CLOTHES[who.clothes](surface, who, colour, accent)
    if who.style.outline:
        surface.stroke(outline, ink(who.style, colour), 1.1 * who.style.outline)
    mask = Surface(Image.new("RGB", (pixels, pixels)))
    mask.fill(outline, (255, 255, 255))
    if who.style.outline:
        mask.stroke(outline, (255, 255, 255), 1.1 * who.style.outline)
    surface.image.putalpha(mask.image.getchannel(0))
    return surface.image


def _body(who: Person) -> np.ndarray:
    """Closed outline of the shoulders: a neckline that dips, a slope, and down."""
    along = np.linspace(0, 1, 16)
    neck = 0.115 if who.clothes != "hoodie" else 0.15
    xs = neck + (who.shoulders - neck) * along
    ys = SHOULDER_Y - 0.015 + 0.085 * along**2.2 + 0.02 * along
    right = np.stack([0.5 + xs, ys], 1)
    left = np.stack([0.5 - xs, ys], 1)
    dip = np.linspace(-1, 1, 9)
    neckline = np.stack([0.5 + neck * dip, SHOULDER_Y - 0.015 + 0.035 * (1 - dip**2)], 1)
    corner = 0.5 + np.array([1, -1]) * (who.shoulders + 0.045)
    return np.concatenate([neckline, right, [[corner[0], 1.1], [corner[1], 1.1]], left[::-1]])


def _band_at_neck(surface: Surface, colour: Colour, *, width: float, drop: float = 0.035) -> None:
    dip = np.linspace(-1, 1, 15)
    points = np.stack([0.5 + 0.118 * dip, SHOULDER_Y - 0.012 + drop * (1 - dip**2)], 1)
    surface.stroke(points, colour, width)


def _tee(surface: Surface, who: Person, colour: Colour, accent: Colour) -> None:
    _band_at_neck(surface, dark_side(who.style, colour), width=0.022)


def _stripes(surface: Surface, who: Person, colour: Colour, accent: Colour) -> None:
    xs = np.linspace(0, 1, 21)
    for row in range(4):
        y = SHOULDER_Y + 0.038 + 0.045 * row + 0.05 * (2 * xs - 1) ** 2
        surface.fill(band(xs, y, y + 0.018), accent, 0.9)
    _band_at_neck(surface, accent, width=0.02)


def _shirt(surface: Surface, who: Person, colour: Colour, accent: Colour) -> None:
    light = mix(colour, (255, 255, 255), 0.35)
    surface.stroke(np.array([[0.5, 0.90], [0.5, 1.1]]), dark_side(who.style, colour), 0.008)
    for sign in (-1, 1):
        points = np.array([[0.125, 0.855], [0.015, 0.94], [0.085, 1.0], [0.175, 0.90]])
        collar = np.stack([0.5 + sign * points[:, 0], points[:, 1]], 1)
        surface.fill(collar, light)
        surface.stroke(collar, ink(who.style, colour), 0.005, closed=True)


def _hoodie(surface: Surface, who: Person, colour: Colour, accent: Colour) -> None:
    dark = dark_side(who.style, colour)
    dip = np.linspace(-1, 1, 15)
    points = np.stack([0.5 + 0.16 * dip, SHOULDER_Y - 0.01 + 0.05 * (1 - dip**2)], 1)
    surface.stroke(points, dark, 0.055)
    surface.stroke(points + [0, 0.02], mix(colour, (255, 255, 255), 0.12), 0.022)
    for sign in (-1, 1):
        surface.stroke(np.array([[0.5 + sign * 0.05, 0.93], [0.5 + sign * 0.055, 1.02]]), accent, 0.010)


def _turtleneck(surface: Surface, who: Person, colour: Colour, accent: Colour) -> None:
    _band_at_neck(surface, mix(colour, (255, 255, 255), 0.12), width=0.05, drop=0.02)


def _jacket(surface: Surface, who: Person, colour: Colour, accent: Colour) -> None:
    shirt = mix(accent, (255, 255, 255), 0.55)
    surface.fill(np.array([[0.39, 0.84], [0.61, 0.84], [0.5, 1.06]]), shirt)
    for sign in (-1, 1):
        points = np.array([[0.125, 0.84], [0.0, 1.08], [0.10, 1.02], [0.14, 0.95], [0.20, 0.93]])
        lapel = np.stack([0.5 + sign * points[:, 0], points[:, 1]], 1)
        surface.fill(lapel, shade(colour, 0.86))
        surface.stroke(lapel, ink(who.style, colour), 0.006, closed=True)


def _vneck(surface: Surface, who: Person, colour: Colour, accent: Colour) -> None:
    skin = dark_side(who.style, who.skin)
    surface.fill(np.array([[0.385, 0.84], [0.615, 0.84], [0.5, 1.0]]), mix(skin, who.skin, 0.5))
    edge = np.array([[0.385, 0.85], [0.5, 1.0], [0.615, 0.85]])
    surface.stroke(edge[:2], accent, 0.016)
    surface.stroke(edge[1:], accent, 0.016)


_CLOTHES = {
    "tee": _tee, "stripes": _stripes, "shirt": _shirt, "hoodie": _hoodie, "turtleneck": _turtleneck,
    "jacket": _jacket, "vneck": _vneck,
}  # fmt: skip


def draw_neck(
    surface: Surface, who: Person, skin: Texture, *, x: float, chin_x: float, chin_y: float
) -> None:
    """The neck from below the head to the collar, with the chin's shadow on it."""
    half = 0.088 if who.lashes else 0.104
    top, low = 0.66, SHOULDER_Y + 0.02
    flare = np.array([[half + 0.01, top], [half, 0.80], [half + 0.004, 0.85], [half + 0.035, low]])
    foot = np.array([0, 0, 0.4, 1.0]) * (0.5 - x) + x
    right, left = foot + flare[:, 0], foot - flare[:, 0]
    dip = np.linspace(1, -1, 9)
    base = np.stack([0.5 + 0.125 * dip, low + 0.02 + 0.015 * (1 - dip**2)], 1)
    neck = np.concatenate([np.stack([right, flare[:, 1]], 1), base, np.stack([left, flare[:, 1]], 1)[::-1]])
    surface.fill(neck, skin)
    if who.style.outline:
        surface.stroke(np.stack([right, flare[:, 1]], 1), ink(who.style, who.skin), who.style.outline)
        surface.stroke(np.stack([left, flare[:, 1]], 1), ink(who.style, who.skin), who.style.outline)
    with surface.clipped(neck):
        shadow = np.stack(ring(chin_x, chin_y - 0.10, 0.20, 0.16), 1)
        surface.fill(shadow, dark_side(who.style, dark_side(who.style, who.skin)), 0.8)
