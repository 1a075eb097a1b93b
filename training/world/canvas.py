"""A supersampled drawing surface in picture fractions, with head tilt."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from .colours import Colour

_SUPERSAMPLING = 3
Points = list[tuple[float, float]]


class Canvas:
    """Square picture of a given side; coordinates are fractions of it, turned around a pivot when asked."""

    def __init__(self, side: int, background: Colour) -> None:
        self._scale = side * _SUPERSAMPLING
        self._side = side
        self._image = Image.new("RGB", (self._scale, self._scale), background)
        self._draw = ImageDraw.Draw(self._image)
        self._turn = (1.0, 0.0, 0.0, 0.0)

    def set_pose(self, *, tilt: float, pivot: tuple[float, float]) -> None:
        """Turn everything drawn from now on by tilt radians around the pivot."""
        self._turn = (math.cos(tilt), math.sin(tilt), *pivot)

    def _place(self, points: Points) -> Points:
        cos, sin, x0, y0 = self._turn
        s = self._scale
        return [
            ((x0 + cos * (x - x0) - sin * (y - y0)) * s, (y0 + sin * (x - x0) + cos * (y - y0)) * s)
            for x, y in points
        ]

    def polygon(self, points: Points, fill: Colour) -> None:
        """Fill a closed outline."""
        self._draw.polygon(self._place(points), fill=fill)

    def ellipse(self, x: float, y: float, half_width: float, half_height: float, fill: Colour) -> None:
        """Fill an ellipse given by its centre and half axes."""
        steps = 40
        angles = (2 * math.pi * i / steps for i in range(steps))
        self.polygon([(x + half_width * math.cos(a), y + half_height * math.sin(a)) for a in angles], fill)

    def line(self, points: Points, fill: Colour, width: float) -> None:
        """Draw a polyline with round ends; width is a fraction of the side."""
        pixels = max(1, round(width * self._scale))
        placed = self._place(points)
        self._draw.line(placed, fill=fill, width=pixels, joint="curve")
        for x, y in (placed[0], placed[-1]):
            self._draw.ellipse((x - pixels / 2, y - pixels / 2, x + pixels / 2, y + pixels / 2), fill=fill)

    def picture(self) -> Image.Image:
        """The finished picture at its true side."""
        return self._image.resize((self._side, self._side), Image.Resampling.BOX)
