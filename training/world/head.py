"""The head as a body: slices that turn, and where points on its face come to lie in the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

FULL_TURN = math.radians(58)  # what a yaw of 1 turns the head by
_LEVELS = -np.cos(
    np.linspace(0, np.pi, 61)
)  # from the crown to the chin, in half heights, closer at both ends
_JAW_FROM = 0.4

# level, and there: face, back of the skull and centre, as depths in half widths, before the crown rounds them off
_PROFILE = np.array([
    (-1.00, 0.98, -1.24, -0.08), (-0.55, 1.02, -1.25, -0.08), (-0.30, 0.99, -1.22, -0.06), (-0.10, 0.94, -1.18, -0.04),
    (0.05, 0.96, -1.10, 0.00), (0.20, 0.98, -0.95, 0.02),
    (0.40, 1.00, -0.70, 0.08), (0.50, 1.04, -0.52, 0.12), (0.58, 1.05, -0.40, 0.16), (0.66, 1.02, -0.28, 0.20),
    (0.74, 0.97, -0.14, 0.24), (0.84, 0.99, 0.02, 0.30), (0.93, 0.93, 0.20, 0.40), (1.00, 0.62, 0.50, 0.56),
]).T  # fmt: skip


_CELLS = 400


def _smooth_profile() -> np.ndarray:
    """Face, back and centre (3, cells + 1) at even levels, without the corners of the list."""
    level = np.linspace(-1, 1, _CELLS + 1)
    window = np.hanning(27)[1:-1] / np.hanning(27).sum()
    curves = [np.interp(level, _PROFILE[0], curve) for curve in _PROFILE[1:]]
    return np.stack([np.convolve(np.pad(curve, 12, mode="edge"), window, mode="valid") for curve in curves])


_DEPTHS = _smooth_profile()


@dataclass(frozen=True)
class HeadShape:
    """Proportions of a head: half width and half height in picture fractions, and how far the jaw narrows (0..0.4)."""

    width: float
    height: float
    taper: float

    @cached_property
    def slices(self) -> np.ndarray:
        """Half width, face, back and centre (4, cells + 1), in half widths, at even levels from crown to chin."""
        level = np.linspace(-1, 1, _CELLS + 1)
        below = np.clip(level, 0, 1)
        crown = (1 - np.abs(np.minimum(level, 0)) ** 2.5) ** 0.5
        half = crown * (1 - below**3.2) ** 0.55 * (1 - self.taper * below**1.4)
        return np.concatenate([half[None] + 1e-6, crown * _DEPTHS])

    def at(self, level: np.ndarray) -> np.ndarray:
        """Slices (4, n) at levels in [-1, 1]."""
        return self.slices[:, ((level + 1) * (_CELLS / 2) + 0.5).astype(int)]


class Head:
    """A head in one pose: turns points of the face into points of the picture.

    Coordinates of a face are picture fractions from the centre of the head seen from the front, y down; a point lies
    on the skin, or lift half widths before it. jaw: how far the chin is dropped, in picture fractions.
    """

    def __init__(
        self, shape: HeadShape, *, x: float, y: float, yaw: float, pitch: float, jaw: float = 0.0
    ) -> None:
        angle = yaw * FULL_TURN
        self.shape, self.x, self.y, self.jaw = shape, x, y, jaw
        self.cos, self.sin = math.cos(angle), math.sin(angle)
        self.pitch = math.sin(pitch)
        self.turn = yaw

    def on_face(self, xs: np.ndarray, ys: np.ndarray, lift: float | np.ndarray = 0.0) -> np.ndarray:
        """Points of the face (..., n) -> (..., n, 2) in the picture; what the head hides is pushed to its outline."""
        half, face, _, centre = self.shape.at(self._level(ys))
        deep = face - centre
        sine = (xs / (self.shape.width * half)).clip(-1, 1)
        if self.sin:
            flat = half * self.cos
            edge = flat / np.sqrt(flat**2 + (deep * self.sin) ** 2)
            sine = np.minimum(sine, edge) if self.sin > 0 else np.maximum(sine, -edge)
        return self._seen(half * sine, ys, centre + (deep + lift) * np.sqrt(1 - sine**2))

    def around(self, azimuth: np.ndarray, level: np.ndarray, swell: float = 1.0) -> np.ndarray:
        """Points around the head -> (n, 2): azimuth in radians from the nose to the ear at +x and the back."""
        half = self.shape.at(np.clip(level, -1, 0.55))[0] * swell
        _, face, back, centre = self.shape.at(np.clip(level, -1, 0.8))
        cos = np.cos(azimuth)
        depth = centre + np.where(cos > 0, face - centre, centre - back) * cos * swell
        return self._seen(half * np.sin(azimuth), level * self.shape.height, depth)

    def at(self, x: float, y: float, depth: float) -> tuple[float, float]:
        """A point anywhere: fractions from the centre, depth in half widths -> its place in the picture."""
        ((px, py),) = self._seen(np.array([x / self.shape.width]), np.array([y]), np.array([depth]))
        return float(px), float(py)

    def beside(self, xs: np.ndarray, ys: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Points anywhere -> (n, 2), as at()."""
        return self._seen(xs / self.shape.width, ys, depth)

    def outline(self) -> np.ndarray:
        """Closed silhouette of skull and jaw without hair, from the crown down on the right, up on the left."""
        right, left, ys = self.sides(_LEVELS)
        return band_of(right, left, ys)

    def sides(self, level: np.ndarray, swell: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Right and left extent (picture xs) and height (picture ys) of the silhouette at levels.

        swell: what is added all around, as a share.
        """
        w = self.shape.width
        half, face, back, centre = self.shape.at(level)
        flat, turned = (half * self.cos) ** 2, abs(self.sin)
        ahead = np.sqrt(flat + ((face - centre) * turned) ** 2) * (1 + swell)
        behind = np.sqrt(flat + ((centre - back) * turned) ** 2) * (1 + swell)
        shift = centre * turned
        right, left = (shift + ahead, shift - behind) if self.sin >= 0 else (behind - shift, -shift - ahead)
        ys = level * self.shape.height * (1 + swell * w / self.shape.height * (level < 0))
        ys = ys + self.jaw * np.clip((level - _JAW_FROM) / (1 - _JAW_FROM), 0, 1)
        sink = self.pitch * w * (shift + 0.9 * np.clip(level, 0, 1))
        return self.x + w * right, self.x + w * left, self.y + ys + sink

    def faces(self, azimuth: float) -> float:
        """How much the side of the head at an azimuth looks at us: 1 straight, 0 edge on, negative away."""
        return math.cos(azimuth) * self.cos - math.sin(azimuth) * self.sin

    def _seen(self, across: np.ndarray, ys: np.ndarray, depth: np.ndarray) -> np.ndarray:
        w = self.shape.width
        x = self.x + w * (across * self.cos + depth * self.sin)
        y = self.y + ys
        if self.pitch:
            y = y + self.pitch * w * (depth * self.cos - across * self.sin)
        return np.stack([x, y], axis=-1)

    def _level(self, ys: np.ndarray) -> np.ndarray:
        """Levels of heights below the centre, with the jaw's drop taken back."""
        h = self.shape.height
        drop = self.jaw * ((ys / h - _JAW_FROM) / (1 - _JAW_FROM)).clip(0, 1) if self.jaw else 0.0
        return ((ys - drop) / h).clip(-0.99, 0.97)


def band_of(right: np.ndarray, left: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Closed outline (2n, 2) of what lies between two sides, down the right one and up the left one."""
    return np.concatenate([np.stack([right, ys], 1), np.stack([left, ys], 1)[::-1]])
