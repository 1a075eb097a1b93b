"""Core's face detection model on a few pictures at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...streaming.face_choice import Face
from ...streaming.face_landmarks import faces_of_detections

MOST_FACES = 16  # of one picture, the surest; the largest number that core's node takes


def face_detector(
    model: Any,  # noqa: ANN401  (core's FACE_DETECTION_MODEL has no class that is part of its API)
    *,
    variant: str,
    confidence: float,
) -> Callable[[int, list[np.ndarray]], list[list[Face]]]:
    """A detector for streaming.faces.track_face; variant "both" keeps what finds more faces, as core's node does.

    Core puts the model on its device at each call, where it stays while there is room.
    """
    if not hasattr(model, "detect_batch"):
        raise ValueError(
            f"got {type(model).__name__} as face_detection_model, expected the output of core's Load Face Detection "
            f"Model (MediaPipe)"
        )
    variants = ("short", "full") if variant == "both" else (variant,)

    def detect(_first: int, pictures: list[np.ndarray]) -> list[list[Face]]:
        runs = [
            model.detect_batch(pictures, num_faces=MOST_FACES, score_thresh=confidence, variant=name)
            for name in variants
        ]
        return [faces_of_detections(max(found, key=len)) for found in zip(*runs, strict=True)]

    return detect
