"""Face boxes given by hand: as numbers in a text, or from a node that makes boxes."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .face_alignment import points_in_box
from .face_choice import Face

FORM = "x, y, width, height of the face in pixels, or 'frame: x, y, width, height' on several lines"
LINE = re.compile(r"^(?:(\d+)\s*:)?\s*(.+)$")


def boxes_of_text(text: str) -> Callable[[int], list[Face]]:
    """Frame -> its face: one box for the whole video ("240, 100, 300, 360"), or one per line ("75: 250, ...").

    Between two lines the box moves in a straight line; before the first and after the last it stands still. "120: none"
    says that no face is to be touched from that frame up to the next line. Raises ValueError for anything else.
    """
    entries = sorted(
        (_entry(line) for line in re.split(r"[\n;]+", text) if line.strip()), key=lambda one: one[0]
    )
    if not entries or all(box is None for _, box in entries):
        raise ValueError(f"the box is {text!r}; expected {FORM}")
    numbers = [number for number, _ in entries]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"the box is {text!r}; each frame can be given once")
    for _, box in entries:
        if box is not None:
            face_of_box(box)  # refuses an empty one before the video is read

    def faces(frame: int) -> list[Face]:
        box = _box_at(entries, numbers, frame)
        return [] if box is None else [face_of_box(box)]

    return faces


def boxes_of_wire(boxes: Any, *, frames: int) -> list[list[Face]]:  # noqa: ANN401  (a dict, or lists of them)
    """Core's BOUNDING_BOX: one box, or lists of boxes per frame; one list serves the whole video.

    Raises ValueError for another number of lists than frames.
    """
    if isinstance(boxes, Mapping):
        boxes = [[boxes]]
    lists = [[entry] if isinstance(entry, Mapping) else list(entry or []) for entry in boxes]
    if len(lists) not in (1, frames):
        raise ValueError(
            f"got boxes for {len(lists)} pictures, the video has {frames} frames; give one box, or those of every frame"
        )
    faces = [[_face_of_wire(box) for box in entry] for entry in lists]
    return faces if len(faces) == frames else faces * frames


def face_of_box(box_xywh: np.ndarray) -> Face:
    """The face in a box x, y, width, height that goes from hairline to chin and from cheek to cheek."""
    x, y, width, height = (float(number) for number in box_xywh)
    if width <= 1 or height <= 1:
        raise ValueError(f"the box has {width:g} x {height:g} pixels; expected {FORM}")
    box_4 = np.array([x, y, x + width, y + height])
    return Face(points_in_box(box_4), box_4)


def _face_of_wire(box: Mapping[str, Any]) -> Face:
    missing = {"x", "y", "width", "height"} - set(box)
    if missing:
        raise ValueError(
            f"a box lacks {', '.join(sorted(missing))}; expected x, y, width and height in pixels"
        )
    return face_of_box(np.array([box["x"], box["y"], box["width"], box["height"]], dtype=np.float64))


def _entry(line: str) -> tuple[int, np.ndarray | None]:
    match = LINE.match(line.strip())
    number = int(match[1] or 0)
    if match[2].strip().lower() == "none":
        return number, None
    parts = [part for part in re.split(r"[,\s]+", match[2].strip(" \t[]()")) if part]
    try:
        values = np.array([float(part) for part in parts])
    except ValueError:
        values = np.array([])
    if len(values) != 4 or not np.isfinite(values).all():
        raise ValueError(f"the box has the line {line.strip()!r}; expected {FORM}")
    return number, values


def _box_at(
    entries: list[tuple[int, np.ndarray | None]], numbers: list[int], frame: int
) -> np.ndarray | None:
    """The box of one frame, by the lines around it; numbers: the frames of the lines, rising."""
    before = bisect_right(numbers, frame)
    if not before:
        return entries[0][1]
    start, box = entries[before - 1]
    after = entries[before : before + 1]
    if box is None or not after or after[0][1] is None:
        return box
    stop, target = after[0]
    return box + (target - box) * ((frame - start) / (stop - start))
