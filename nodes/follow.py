"""Behind Track Face: detections from wherever they come, one face followed, what was found in words and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.frame_reader import FrameReader
from ..media.video_source import Source
from ..streaming.face_alignment import align
from ..streaming.face_choice import Face, FaceChoice
from ..streaming.face_landmarks import frames_of_landmarks
from ..streaming.faces import Detect, FacelessRun, track_face
from ..streaming.hand_boxes import boxes_of_text, boxes_of_wire
from ..streaming.video_clock import video_clock
from .host.faces import face_detector
from .host.progress import Bar, executing_node
from .types import TrackedFace

SHOWN_SHOTS, SHOWN_RUNS = 4, 6
CROP_SIDE, MARK = 192, (64, 255, 96)


@dataclass(frozen=True, eq=False)
class Detections:
    """Where faces come from; exactly one of the four. text: of the widget, empty when not used."""

    model: Any = None
    landmarks: Any = None
    boxes: Any = None
    text: str = ""
    variant: str = "short"
    confidence: float = 0.5

    def detector(self, source: Source) -> Detect:
        """Raises ValueError, naming the inputs, for none or for several."""
        given = {
            "face_detection_model": self.model is not None,
            "face_landmarks": self.landmarks is not None,
            "bboxes": self.boxes is not None,
            "box": bool(self.text.strip()),
        }
        used = [name for name, present in given.items() if present]
        if len(used) != 1:
            raise ValueError(
                f"got {' and '.join(used) or 'nothing'} to find the face by; expected one of {', '.join(given)}"
            )
        if self.model is not None:
            return face_detector(self.model, variant=self.variant, confidence=self.confidence)
        frames = source.index.frames
        if self.landmarks is not None:
            size = {"width": source.width, "height": source.height}
            return _known(frames_of_landmarks(self.landmarks, frames=frames, **size).__getitem__)
        if self.boxes is not None:
            return _known(boxes_of_wire(self.boxes, frames=frames).__getitem__)
        return _known(boxes_of_text(self.text))


def _known(faces: Callable[[int], list[Face]]) -> Detect:
    """A detector out of the faces of each frame."""
    return lambda first, pictures: [faces(first + place) for place in range(len(pictures))]


def follow_face(
    source: Source,
    detections: Detections,
    *,
    choice: FaceChoice,
    smoothing_frames: float,
    bridge_frames: int,
) -> TrackedFace:
    """Follows the face with a bar on the running node; Stop works between any two frames."""
    bar = Bar(executing_node() or None, source.index.frames)
    track = track_face(
        _counted(source, bar),
        detections.detector(source),
        choice=choice,
        smoothing_frames=smoothing_frames,
        bridge_frames=bridge_frames,
    )
    index = source.index
    clock = video_clock(index.ticks, time_base=index.time_base, fps=index.fps, segments_F=track.segments_F)
    return TrackedFace(source, track, clock)


def _counted(source: Source, bar: Bar) -> Iterator[np.ndarray]:
    for frame in source.frames():
        bar.update(frame.index)
        yield frame.picture


def describe_track(face: TrackedFace) -> str:
    """Size, rate, length, shots, and the frames that pass through as they are."""
    index, track = face.source.index, face.track
    seconds = float(len(face.clock.sources_K) / face.clock.fps)
    rate = f"{float(index.fps):.5g} fps" + ("" if index.constant else " (from a variable rate)")
    shots = len(np.unique(track.segments_F))
    lines = [
        f"{track.width}x{track.height}, {rate}, {track.frames} frames ({seconds:.1f} s), "
        f"{shots} {'shot' if shots == 1 else 'shots'}",
        f"face in {int(track.found_F.sum())} of {track.frames} frames",
    ]
    if track.faceless:
        named = [_named(face, run) for run in track.faceless[:SHOWN_RUNS]]
        more = len(track.faceless) - len(named)
        lines.append("passes through: " + ", ".join(named) + (f", and {more} more" if more else ""))
    return "\n".join(lines)


def _named(face: TrackedFace, run: FacelessRun) -> str:
    begins, ends = (float(face.source.index.seconds(frame)) for frame in (run.first, run.stop - 1))
    return f"frames {run.first}-{run.stop - 1} ({begins:.1f}-{ends:.1f} s, {run.reason})"


def picture_track(face: TrackedFace) -> Tensor:
    """IMAGE (B, H, W, 3): of the first shots with a face one frame each, its box and points marked, its crop inset."""
    track, shown = face.track, []
    reader = FrameReader(face.source)
    for segment in np.unique(track.segments_F[track.found_F])[:SHOWN_SHOTS]:
        frame = int(np.flatnonzero(track.found_F & (track.segments_F == segment))[0])
        shown.append(_marked(reader.picture(frame), face, frame))
    reader.close()
    return torch.from_numpy(np.stack(shown)).float() / 255.0


def _marked(picture_HWC: np.ndarray, face: TrackedFace, frame: int) -> np.ndarray:
    height, width = picture_HWC.shape[:2]
    side = min(CROP_SIDE, height // 3, width // 3)
    crop = align(picture_HWC, face.track.matrix_at(frame, side=side), side=side) if side else None
    marked, line = picture_HWC.copy(), max(1, min(height, width) // 240)
    x0, y0, x1, y1 = np.rint(face.track.boxes_F4[frame]).astype(int)
    for x, y, across, down in (
        (x0, y0, x1 - x0, line),
        (x0, y1 - line, x1 - x0, line),
        (x0, y0, line, y1 - y0),
        (x1 - line, y0, line, y1 - y0),
        *(
            (*(np.rint(point).astype(int) - line), 2 * line, 2 * line)
            for point in face.track.points_F32[frame]
        ),
    ):
        marked[max(0, y) : max(0, y + down), max(0, x) : max(0, x + across)] = MARK
    if crop is not None:
        marked[height - side :, width - side :] = crop
    return marked
