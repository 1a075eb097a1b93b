"""The three alignment points out of a face mesh, as core's MediaPipe node finds it (478 landmarks)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .face_choice import Face

# Left and right as they are seen. The same landmarks that LatentSync averages in its MediaPipe version: of the 68
# points of older detectors these are both brows and the nose with its bridge and wings.
LEFT_BROW = (70, 63, 105, 66, 107)
RIGHT_BROW = (336, 296, 334, 293, 300)
NOSE = (6, 5, 1, 2, 129, 240, 2, 460, 358)
LANDMARKS = 468  # at least: meshes with irises have ten more


def face_of_landmarks(landmarks_L2: np.ndarray, box_4: np.ndarray) -> Face:
    """landmarks_L2: (468 or more, 2) in pixels; box_4: x0, y0, x1, y1 in pixels."""
    landmarks = np.asarray(landmarks_L2, dtype=np.float64)
    if landmarks.ndim != 2 or landmarks.shape[0] < LANDMARKS or landmarks.shape[1] < 2:
        raise ValueError(
            f"got landmarks of shape {landmarks.shape}, expected ({LANDMARKS} or more, 2) as core's Detect Face "
            f"Landmarks (MediaPipe) makes them"
        )
    parts = [landmarks[list(part), :2].mean(0) for part in (LEFT_BROW, RIGHT_BROW, NOSE)]
    return Face(np.stack(parts), np.asarray(box_4, dtype=np.float64))


def faces_of_detections(faces: Sequence[Mapping[str, Any]]) -> list[Face]:
    """The faces of one picture, in the form of core's detector ("landmarks_xy" and "bbox_xyxy" of each)."""
    return [face_of_landmarks(face["landmarks_xy"], face["bbox_xyxy"]) for face in faces]


def frames_of_landmarks(
    landmarks: Mapping[str, Any], *, width: int, height: int, frames: int
) -> list[list[Face]]:
    """The faces of every frame out of core's FACE_LANDMARKS, which must have been made from the same video.

    Raises ValueError for another number of frames or another size (an odd last row or column aside).
    """
    found = landmarks["frames"]
    made_height, made_width = landmarks["image_size"]
    if (made_width - made_width % 2, made_height - made_height % 2) != (width, height):
        raise ValueError(
            f"the landmarks come from pictures of {made_width}x{made_height}, the video has {width}x{height}; "
            f"detect them in this video's own pictures"
        )
    if len(found) != frames:
        raise ValueError(
            f"the landmarks cover {len(found)} pictures, the video has {frames} frames; detect them in all of this "
            f"video's pictures, or connect the detection model instead"
        )
    return [faces_of_detections(frame) for frame in found]
