"""Art styles: how a lit, rounded thing of one colour is painted, and how lines are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .colours import Colour, mix, shade
from .surface import Texture


@dataclass(frozen=True)
class Style:
    """One way to paint.

    depth: how dark the shadow side is, in [0, 1]. hardness: 0 blends light into shadow, 1 cuts between them. rim: light
    along the edge away from the lamp. grain: strength of brush marks. outline: width of the ink line around shapes, a
    fraction of the side. shadow, lamp: tints of both sides. dim: brightness of the whole.
    """

    name: str
    depth: float
    hardness: float
    rim: float
    grain: float
    outline: float
    shadow: Colour
    lamp: Colour
    rim_light: Colour = (255, 250, 240)
    dim: float = 1.0
    saturation: float = 1.0


STYLES = (
    Style("flat", 0.10, 1.0, 0.0, 0.0, 0.0, (120, 60, 90), (255, 250, 240), saturation=1.08),
    Style("soft", 0.34, 0.0, 0.55, 0.0, 0.0, (96, 50, 84), (255, 240, 214)),
    Style("ink", 0.26, 1.0, 0.0, 0.0, 0.0085, (88, 60, 110), (255, 250, 235), saturation=1.12),
    Style("gouache", 0.24, 0.35, 0.2, 1.0, 0.0, (110, 84, 120), (255, 236, 206), saturation=0.86),
    Style("night", 0.44, 0.15, 0.95, 0.0, 0.0, (44, 40, 104), (255, 206, 140), (120, 170, 255), 0.92),
)


@dataclass(frozen=True)
class Light:
    """Where the lamp stands: to the right (+) or left, above (-) or below, in [-1, 1]."""

    x: float
    y: float

    def vector(self) -> np.ndarray:
        """Unit vector towards the lamp: right, down, to the viewer."""
        raw = np.array([self.x, self.y, 0.75])
        return raw / np.linalg.norm(raw)


def tinted(style: Style, colour: Colour) -> Colour:
    """A colour as the style's palette has it."""
    grey = sum(colour) / 3
    red, green, blue = (
        int(np.clip((grey + (c - grey) * style.saturation) * style.dim, 0, 255)) for c in colour
    )
    return red, green, blue


def dark_side(style: Style, colour: Colour) -> Colour:
    """What a colour becomes in the style's shadow."""
    return mix(shade(colour, 1 - style.depth), style.shadow, 0.30 * style.depth)


def ink(style: Style, colour: Colour) -> Colour:
    """The line that belongs to a fill: nearly black in ink, else a deep shade of the colour itself."""
    return (38, 26, 40) if style.outline else mix(shade(colour, 0.45), style.shadow, 0.25)


def rounded(
    style: Style, light: Light, colour: Colour, *, pixels: int, half_width: float, half_height: float,
    random: np.random.Generator, shine: float = 0.0,
) -> Texture:  # fmt: skip
    """A sheet of one colour, lit as an ellipsoid at its middle whose half axes are fractions of the side.

    pixels: side of the surface; the sheet is half as large again and its middle lies at the surface's corner, to be
    moved to where the thing is. shine: strength of a gloss band, for hair.
    """
    cells = pixels // 2
    grid = (np.arange(cells) + 0.5) / cells * 1.5 - 0.75
    x, y = grid[None] / half_width, grid[:, None] / half_height
    far = np.maximum(np.sqrt(x**2 + y**2), 1e-6)
    inside = np.minimum(far, 0.985)
    normal = np.stack([x / far * inside, y / far * inside, np.sqrt(1 - inside**2)])
    lit = np.tensordot(light.vector(), normal, axes=1)
    tone = _toned(style, lit)
    if style.grain:
        tone = tone + style.grain * _brush_marks(random, cells)
    dark, bright = (np.asarray(c, float) for c in (dark_side(style, colour), mix(colour, style.lamp, 0.10)))
    sheet = dark + (bright - dark) * np.clip(tone, -0.2, 1.25)[..., None]
    if style.rim:
        edge = np.clip((far - 0.80) / 0.2, 0, 1) * np.clip(-lit * 1.5 + 0.35, 0, 1)
        sheet += (np.asarray(style.rim_light) - sheet) * (0.55 * style.rim * edge)[..., None]
    if shine:
        sheet += (np.asarray(mix(colour, style.lamp, 0.75)) - sheet) * _gloss(style, light, x, y, shine)[
            ..., None
        ]
    image = Image.fromarray(sheet.clip(0, 255).astype(np.uint8))
    size = round(pixels * 1.5)
    return Texture(image.resize((size, size), Image.Resampling.BILINEAR), -size / 2, -size / 2)


def _toned(style: Style, lit: np.ndarray) -> np.ndarray:
    """Cosine of the light -> share of the bright colour: a ramp, or a cut, or something between."""
    ramp = np.clip(0.30 + 0.85 * lit, 0, 1)
    cut = np.clip((lit - 0.18) / 0.03, 0, 1)
    return ramp * (1 - style.hardness) + cut * style.hardness


def _brush_marks(random: np.random.Generator, cells: int) -> np.ndarray:
    """Slanted blotches, about [-0.2, 0.2]."""
    marks = np.zeros((cells, cells))
    for rows, columns, strength in ((9, 17, 0.10), (24, 60, 0.06)):
        coarse = Image.fromarray(random.standard_normal((rows, columns)).astype(np.float32))
        marks += strength * np.asarray(coarse.rotate(24).resize((cells, cells), Image.Resampling.BICUBIC))
    return marks


def _gloss(style: Style, light: Light, x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Weight of the bright band that bends around the crown towards the lamp."""
    bend = y + 0.62 - 0.22 * x**2 + 0.10 * x * np.sign(light.x)
    towards = np.exp(-(((x - 0.34 * light.x) / 0.52) ** 2))
    weight = np.exp(-((bend / 0.11) ** 2)) * towards
    if style.hardness > 0.9:
        return 0.55 * strength * np.clip((weight - 0.42) / 0.08, 0, 1)
    return strength * weight * (0.75 + 0.25 * np.sin(26 * x + 3 * y))
