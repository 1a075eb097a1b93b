"""Shot cuts, found on the way through a video: the picture changes at once, and stays changed."""

from __future__ import annotations

from collections import deque

import numpy as np

GRID = 16  # cells per side that a picture is averaged into
CHANGE = 20.0  # grey levels, mean over the cells: less is never a cut
CELL_CHANGE, CHANGED_CELLS = 12.0, 0.3  # so many cells change by so much: a hand before the lens is no cut
RISE = 4.0  # times the usual change of the last frames: camera moves and dancers stay below
USUAL_FRAMES = 12
FLASH_FRAMES = 2  # a change that is gone after so many frames is a flash


class ShotFinder:
    """Feed pictures in order; learn, FLASH_FRAMES later, which of them begin a new shot."""

    def __init__(self) -> None:
        self._thumbs: deque[np.ndarray] = deque(maxlen=FLASH_FRAMES + 2)
        self._changes: deque[float] = deque(maxlen=USUAL_FRAMES)
        self._suspects: dict[int, np.ndarray] = {}
        self._frames = 0
        self.cuts: list[int] = []

    def push(self, picture_HWC: np.ndarray) -> None:
        """The next picture, (H, W, 3) uint8."""
        thumb = thumbnail(picture_HWC)
        frame, self._frames = self._frames, self._frames + 1
        if self._thumbs:
            change = distance(thumb, self._thumbs[-1])
            usual = float(np.median(self._changes)) if self._changes else 0.0
            if change > max(CHANGE, RISE * usual) and is_everywhere(thumb, self._thumbs[-1]):
                self._suspects[frame] = self._thumbs[-1]
            else:
                self._changes.append(change)
        self._thumbs.append(thumb)
        self._settle(frame, thumb)

    def finish(self) -> list[int]:
        """The frames that begin a new shot, rising, those near the end included."""
        self.cuts.extend(sorted(self._suspects))
        self._suspects.clear()
        return self.cuts

    def _settle(self, frame: int, thumb: np.ndarray) -> None:
        """A suspect is a cut when the picture before it has not come back since."""
        for suspect in sorted(self._suspects):
            if frame > suspect and distance(thumb, self._suspects[suspect]) <= CHANGE / 2:
                for flash in [other for other in self._suspects if other >= suspect]:
                    del self._suspects[flash]  # the way there and the way back
                return
            if frame >= suspect + FLASH_FRAMES:
                del self._suspects[suspect]
                self.cuts.append(suspect)


def thumbnail(picture_HWC: np.ndarray) -> np.ndarray:
    """(GRID, GRID, 3) float32 cell means; every few pixels are enough."""
    height, width = picture_HWC.shape[:2]
    step = max(1, min(height, width) // (4 * GRID))
    small = picture_HWC[::step, ::step].astype(np.float32)
    rows = np.linspace(0, small.shape[0], GRID, endpoint=False).astype(int)
    columns = np.linspace(0, small.shape[1], GRID, endpoint=False).astype(int)
    sums = np.add.reduceat(np.add.reduceat(small, rows, axis=0), columns, axis=1)
    heights = np.diff(np.append(rows, small.shape[0]))
    widths = np.diff(np.append(columns, small.shape[1]))
    return sums / np.maximum(1, heights[:, None, None] * widths[None, :, None])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two thumbnails in grey levels, 0 to 255."""
    return float(np.abs(one - other).mean())


def is_everywhere(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether enough of the cells differ."""
    return float((np.abs(one - other).mean(-1) > CELL_CHANGE).mean()) > CHANGED_CELLS


def segments(cuts: list[int], frames: int) -> np.ndarray:
    """(F,) int64: 0 before the first cut, 1 from there on, and so forth."""
    numbers = np.zeros(frames, np.int64)
    numbers[[cut for cut in cuts if cut < frames]] = 1
    return np.cumsum(numbers)
