"""A stand-in for core's face detection model: white squares are faces, found and told in the same form."""

from __future__ import annotations

import numpy as np

LEFT_BROW, RIGHT_BROW = (70, 63, 105, 66, 107), (336, 296, 334, 293, 300)
NOSE = (6, 5, 1, 2, 129, 240, 2, 460, 358)
WHITE = 200


class WhiteSquares:
    """Finds each column range that holds white pixels; `calls` keeps how many pictures came at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str]] = []

    def detect_batch(
        self, images: list[np.ndarray], num_faces: int, score_thresh: float, variant: str
    ) -> list[list[dict]]:
        """The form of FaceLandmarkerModel.detect_batch; the variant "full" also sees grey squares."""
        assert num_faces == 16
        assert 0 <= score_thresh <= 1
        self.calls.append((len(images), variant))
        return [faces_of(image, level=WHITE if variant == "short" else 170) for image in images]


def faces_of(image: np.ndarray, *, level: int) -> list[dict]:
    """The face dicts of one picture."""
    white = image.min(-1) > level
    columns = np.flatnonzero(white.any(0))
    if not len(columns):
        return []
    return [face_of(white, group) for group in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)]


def face_of(white: np.ndarray, columns: np.ndarray) -> dict:
    """Brows at a quarter and three quarters of the square's width, the nose in its middle."""
    rows = np.flatnonzero(white[:, columns].any(1))
    x0, x1, y0, y1 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    landmarks = np.zeros((478, 2), np.float32)
    for part, x, y in ((LEFT_BROW, 0.25, 0.28), (RIGHT_BROW, 0.75, 0.28), (NOSE, 0.5, 0.48)):
        landmarks[list(part)] = x0 + x * (x1 - x0), y0 + y * (y1 - y0)
    box = np.array([x0, y0, x1, y1], np.float32)
    return {"bbox_xyxy": box, "landmarks_xy": landmarks, "score": 0.9, "blendshapes": {}}


def draw(*squares: tuple[int, int, int, int], background: int = 60, level: int = 235) -> np.ndarray:
    """(64, 96, 3) uint8 with white squares x, y, width, height."""
    picture = np.full((64, 96, 3), background, np.uint8)
    for x, y, width, height in squares:
        picture[y : y + height, x : x + width] = level
    return picture
