"""Which of several faces is meant, and which face of the next frame is the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

ORDERS = ("largest", "left to right", "nearest to point")
Order = Literal["largest", "left to right", "nearest to point"]
REACH = 0.6  # of the box's side: how far a face can move from one frame to the next
REACH_PER_FRAME = 0.05  # and more for each frame that it was missing
WIDEST_REACH = 2.0
SIZE_CHANGE = 2.0  # between two frames; a face of another size is another face


@dataclass(frozen=True, eq=False)
class Face:
    """A face that was found. points_32: left brow, right brow, nose; box_4: x0, y0, x1, y1; both in pixels."""

    points_32: np.ndarray
    box_4: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """(2,) of the box."""
        return (self.box_4[:2] + self.box_4[2:]) / 2

    @property
    def side(self) -> float:
        """Side of a square with the box's area."""
        return float(np.sqrt(max(0.0, np.prod(self.box_4[2:] - self.box_4[:2]))))


@dataclass(frozen=True)
class FaceChoice:
    """The face that each shot begins with. index: its number in this order, from 0; point: x, y in 0 .. 1."""

    order: Order = "largest"
    index: int = 0
    point: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"the order of faces is {self.order!r}; allowed: {', '.join(ORDERS)}")
        if self.index < 0:
            raise ValueError(f"the face's number is {self.index}; the first one is 0")

    def pick(self, faces: list[Face], *, width: int, height: int) -> Face | None:
        """The chosen one, or None where there are fewer."""
        target = np.array([self.point[0] * width, self.point[1] * height])
        keys = {
            "largest": lambda face: -face.side,
            "left to right": lambda face: float(face.centre[0]),
            "nearest to point": lambda face: float(np.linalg.norm(face.centre - target)),
        }
        ranked = sorted(faces, key=keys[self.order])
        return ranked[self.index] if self.index < len(ranked) else None


class Follower:
    """One face through one shot: the choice where it begins, then whatever is nearest to where it was.

    While others are in the picture it must be near, and nearer to its own last place than to any of theirs; a face
    that was always alone may come back anywhere.
    """

    def __init__(self, choice: FaceChoice, *, width: int, height: int) -> None:
        self._choice, self._width, self._height = choice, width, height
        self._last: Face | None = None
        self._others: list[Face] = []
        self._missing = 0
        self._alone = True

    def next(self, faces: list[Face]) -> Face | None:
        """The face in the next frame, or None where it is missing."""
        self._alone = self._alone and len(faces) <= 1
        found = self._same(faces) if self._last is not None else self._first(faces)
        if found is None:
            self._missing += 1
            self._others = [_moved(other, faces) for other in self._others]
        else:
            self._last, self._missing = found, 0
            self._others = [face for face in faces if face is not found]
        return found

    def _first(self, faces: list[Face]) -> Face | None:
        return self._choice.pick(faces, width=self._width, height=self._height)

    def _same(self, faces: list[Face]) -> Face | None:
        own = [face for face in faces if not self._is_another(face)]
        if not own:
            return None
        nearest = min(own, key=lambda face: distance(face, self._last))
        if self._alone and self._missing:
            return nearest
        reach = min(WIDEST_REACH, REACH + REACH_PER_FRAME * self._missing) * self._last.side
        near = distance(nearest, self._last) <= reach
        alike = 1 / SIZE_CHANGE <= nearest.side / max(self._last.side, 1e-6) <= SIZE_CHANGE
        return nearest if near and alike else None

    def _is_another(self, face: Face) -> bool:
        return any(distance(face, other) < distance(face, self._last) for other in self._others)


def distance(one: Face, other: Face) -> float:
    """Between the centres, in pixels."""
    return float(np.linalg.norm(one.centre - other.centre))


def _moved(other: Face, faces: list[Face]) -> Face:
    """Where another person is now: the nearest face within its reach, else its last place."""
    near = [face for face in faces if distance(face, other) <= REACH * other.side]
    return min(near, key=lambda face: distance(face, other), default=other)
