"""The chosen face of every frame as a row of ten numbers, so that a long video costs 80 bytes a frame."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from math import nan

import numpy as np

from .face_choice import Face, FaceChoice, Follower

MISSING = (nan,) * 10


class FaceRows:
    """One face followed behind the search for cuts: each shot chooses anew, so its frames wait until cuts are sure.

    most: faces in one frame, at most.
    """

    def __init__(self, choice: FaceChoice) -> None:
        self.most = 0
        self._choice = choice
        self._waiting: deque[list[Face]] = deque()
        self._rows = array("d")
        self._settled, self._shot = 0, 0
        self._follower: Follower | None = None

    def add(self, faces: Iterable[list[Face]]) -> None:
        """The faces of the next frames."""
        for found in faces:
            self.most = max(self.most, len(found))
            self._waiting.append(found)

    def settle(self, stop: int, cuts: list[int], *, size: tuple[int, int]) -> None:
        """Follow up to frame stop - 1. cuts: all before `stop`, rising; size: (H, W) of the pictures."""
        while self._settled < stop:
            shot = bisect_right(cuts, self._settled)
            if self._follower is None or shot != self._shot:
                self._shot = shot
                self._follower = Follower(self._choice, width=size[1], height=size[0])
            face = self._follower.next(self._waiting.popleft())
            self._rows.extend(MISSING if face is None else (*face.points_32.ravel(), *face.box_4))
            self._settled += 1

    def table(self) -> np.ndarray:
        """(F, 10) float64: the three points, then x0, y0, x1, y1; NaN where the face is missing."""
        return np.frombuffer(self._rows).reshape(-1, len(MISSING))
