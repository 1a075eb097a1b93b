"""A drawing surface: filled, stroked, translucent, soft and clipped shapes in picture fractions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from .colours import Colour

SUPERSAMPLING = 3
_ROUND = {n: np.array([np.cos(a := np.linspace(0, 2 * np.pi, n + 1)[:-1]), np.sin(a)]) for n in (16, 28, 72)}


@dataclass(frozen=True)
class Texture:
    """A painted sheet that shapes are cut from: its image, and where its corner lies on the surface (pixels)."""

    image: Image.Image
    left: float
    top: float

    def moved(self, x_pixels: float, y_pixels: float) -> Texture:
        """The same sheet laid elsewhere."""
        return replace(self, left=self.left + x_pixels, top=self.top + y_pixels)


Paint = Colour | Texture


@lru_cache(maxsize=256)
def _soft_spot(width: int, height: int, strength: int) -> Image.Image:
    """An ellipse that fades to its rim, (height, width) of weights up to strength."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    weight = np.clip(1 - x**2 - y**2, 0, 1) ** 1.5
    return Image.fromarray((weight * strength).astype(np.uint8))


def ring(x: float, y: float, half_width: float, half_height: float) -> tuple[np.ndarray, np.ndarray]:
    """Outline of an ellipse: its xs and ys."""
    cos, sin = _ROUND[16 if half_width < 0.012 else 28 if half_width < 0.06 else 72]
    return x + half_width * cos, y + half_height * sin


def band(xs: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Closed outline (2n, 2): along the upper curve, back along the lower."""
    return np.concatenate([np.stack([xs, upper], 1), np.stack([xs, lower], 1)[::-1]])


class Surface:
    """A square picture, drawn at three times its side. Points are (n, 2) fractions of the side, y down."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.pixels = image.width
        self._draw = ImageDraw.Draw(image)
        self._turn = np.eye(2)
        self._offset = np.zeros(2)
        self._clip: tuple[Image.Image, tuple[int, int]] | None = None

    def tilt(self, angle: float, pivot: tuple[float, float]) -> None:
        """Turn everything drawn from now on by an angle in radians around a pivot."""
        cos, sin = math.cos(angle), math.sin(angle)
        self._turn = np.array([[cos, sin], [-sin, cos]])
        self._offset = np.asarray(pivot) - np.asarray(pivot) @ self._turn

    def placed(self, points: np.ndarray) -> np.ndarray:
        """Points as they lie in the picture, in fractions of the side."""
        return points @ self._turn + self._offset

    def fill(self, points: np.ndarray, paint: Paint, alpha: float = 1.0) -> None:
        """Fill a closed outline with a colour or a texture."""
        if alpha < 1 or self._clip is not None or not isinstance(paint, tuple):
            self.fill_all([points], paint, alpha)
            return
        self._draw.polygon((self.placed(points) * self.pixels).ravel().tolist(), fill=paint)

    def fill_all(self, outlines: list[np.ndarray], paint: Paint, alpha: float = 1.0) -> None:
        """Fill what several closed outlines cover together, once."""
        placed = [self.placed(points) * self.pixels for points in outlines]
        box = self._box(placed[0] if len(placed) == 1 else np.concatenate(placed))
        if box is None:
            return
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        draw, corner = ImageDraw.Draw(mask), np.array(box[:2])
        for points in placed:
            draw.polygon((points - corner).ravel().tolist(), fill=round(255 * min(alpha, 1)))
        self._paste(paint, box, mask)

    def stroke(
        self,
        points: np.ndarray,
        colour: Colour,
        width: float | np.ndarray,
        alpha: float = 1.0,
        *,
        closed: bool = False,
    ) -> None:
        """Draw a line along points; width, a fraction of the side, may change from point to point."""
        if closed:
            points = np.concatenate([points, points[:1]])
        before, after = (points[-2:-1], points[1:2]) if closed else (points[:1], points[-1:])
        along = np.concatenate([points[1:], after]) - np.concatenate([before, points[:-1]])
        half = 0.5 * width / (np.sqrt(along[:, 0] ** 2 + along[:, 1] ** 2) + 1e-9)
        side = np.column_stack([-along[:, 1] * half, along[:, 0] * half])
        self.fill(np.concatenate([points + side, (points - side)[::-1]]), colour, alpha)

    def soft(
        self, x: float, y: float, half_width: float, half_height: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """Lay an ellipse that fades to its rim."""
        ((x, y),) = self.placed(np.array([[x, y]])) * self.pixels
        width, height = (max(2, round(2 * half * self.pixels)) for half in (half_width, half_height))
        left, top = round(x - width / 2), round(y - height / 2)
        box = (max(0, left), max(0, top), min(self.pixels, left + width), min(self.pixels, top + height))
        if box[0] >= box[2] or box[1] >= box[3]:
            return
        spot = _soft_spot(width, height, round(255 * alpha))
        mask = spot.crop((box[0] - left, box[1] - top, box[2] - left, box[3] - top))
        self._paste(colour, box, mask)

    @contextmanager
    def clipped(self, points: np.ndarray) -> Iterator[None]:
        """Draw only inside a closed outline until the block ends."""
        placed = self.placed(points) * self.pixels
        box = self._box(placed) or (0, 0, 1, 1)
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon((placed - np.array(box[:2])).ravel().tolist(), fill=255)
        self._clip = (mask, box[:2])
        yield
        self._clip = None

    def finished(self) -> np.ndarray:
        """The picture at its true side: (H, W, 3) uint8."""
        return np.asarray(self.image.reduce(SUPERSAMPLING))

    def _box(self, placed: np.ndarray) -> tuple[int, int, int, int] | None:
        """Whole pixels around points, cut to the picture; None outside it."""
        (left, top), (right, low) = placed.min(axis=0).tolist(), placed.max(axis=0).tolist()
        box = (
            max(0, int(left)),
            max(0, int(top)),
            min(self.pixels, int(right) + 2),
            min(self.pixels, int(low) + 2),
        )
        return None if box[0] >= box[2] or box[1] >= box[3] else box

    def _paste(self, paint: Paint, box: tuple[int, int, int, int], mask: Image.Image) -> None:
        if self._clip is not None:
            clip, (left, top) = self._clip
            inside = clip.crop((box[0] - left, box[1] - top, box[2] - left, box[3] - top))
            mask = ImageChops.multiply(mask, inside)
        if isinstance(paint, tuple):
            self.image.paste(paint, box, mask)
            return
        x, y = round(paint.left), round(paint.top)
        self.image.paste(paint.image.crop((box[0] - x, box[1] - y, box[2] - x, box[3] - y)), box, mask)
