"""One face followed through a video: where it is in every frame, in which shot, and where it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from .face_alignment import aligned_square
from .face_choice import Face, FaceChoice
from .face_rows import FaceRows
from .shots import FLASH_FRAMES, ShotFinder, segments

NO_FACE = "no face"
TURNED_AWAY = "turned away"
PROFILE = 0.6  # the brows' distance over the nose's from them: 1.2 to 1.4 from the front, 0.6 near 60 degrees
DETECT_FRAMES = 8  # pictures given to the detector at once

Detect = Callable[[int, list[np.ndarray]], list[list[Face]]]
"""First frame's number and (H, W, 3) uint8 pictures -> the faces of each."""


@dataclass(frozen=True)
class FacelessRun:
    """Frames first .. stop - 1, which pass through as they are. reason: "no face" or "turned away"."""

    first: int
    stop: int
    reason: Literal["no face", "turned away"]


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """The face in every source frame of a video, F rows. Where it is missing, points and box are its nearest ones.

    width, height: of the pictures; points_F32: left brow, right brow, nose in pixels, smoothed; boxes_F4: x0, y0, x1,
    y1; found_F: whether the mouth is to be made there; segments_F: the shot, 0, 1, 2 ...
    """

    width: int
    height: int
    points_F32: np.ndarray
    boxes_F4: np.ndarray
    found_F: np.ndarray
    segments_F: np.ndarray
    faceless: tuple[FacelessRun, ...]

    @property
    def frames(self) -> int:
        """Source frames."""
        return len(self.found_F)

    def matrix_at(self, index: int, *, side: int) -> np.ndarray:
        """(2, 3) float64 from picture pixels to the square crop of this side."""
        return aligned_square(self.points_F32[index], side=side)


def track_face(
    pictures: Iterable[np.ndarray],
    detect: Detect,
    *,
    choice: FaceChoice,
    smoothing_frames: float = 1.5,
    bridge_frames: int = 8,
) -> FaceTrack:
    """Follows one face through pictures (H, W, 3) uint8, of which DETECT_FRAMES are held at a time, each face as a row.

    smoothing_frames: width of the smoothing, 0 for none; bridge_frames: a face that is missing for no longer is drawn
    in between. Raises ValueError where no frame has a face.
    """
    shots, rows, frames, size = ShotFinder(), FaceRows(choice), 0, (0, 0)
    for first, batch in _batches(pictures):
        for picture in batch:
            if size not in ((0, 0), picture.shape[:2]):
                raise ValueError(
                    f"the video's size changes from {size[1]}x{size[0]} to {picture.shape[1]}x{picture.shape[0]} "
                    f"on the way; convert it to one size first"
                )
            size = picture.shape[:2]
            shots.push(picture)
        frames = first + len(batch)
        rows.add(detect(first, batch))
        rows.settle(frames - FLASH_FRAMES, shots.cuts, size=size)
    cuts = shots.finish()
    rows.settle(frames, cuts, size=size)
    if 0 < rows.most <= choice.index:
        raise ValueError(
            f"face number {choice.index} was asked for, but a frame has at most {rows.most}; the first face is "
            "number 0"
        )
    return build_track(
        rows.table(),
        segments(cuts, frames),
        size=size,
        smoothing_frames=smoothing_frames,
        bridge_frames=bridge_frames,
    )


def build_track(
    rows_FN: np.ndarray,
    segments_F: np.ndarray,
    *,
    size: tuple[int, int],
    smoothing_frames: float,
    bridge_frames: int,
) -> FaceTrack:
    """The track of one face per frame, as FaceRows has them; size: (H, W)."""
    seen_F = ~np.isnan(rows_FN[:, 0])
    if not seen_F.any():
        raise ValueError(
            f"no face was found in any of the {len(rows_FN)} frames; try the detector variant 'both', a lower "
            f"confidence, or give the face's box by hand"
        )
    turned_F = np.array([is_turned_away(points_32) for points_32 in rows_FN[:, :6].reshape(-1, 3, 2)])
    turned_F &= seen_F
    found_F = seen_F & ~turned_F
    if not found_F.any():
        raise ValueError(
            "the face is turned away in every frame; lip sync needs to see the mouth from the front"
        )
    rows = np.where(found_F[:, None], rows_FN, np.nan)
    for shot in _shots(segments_F):
        found_F[shot] = _bridged(found_F[shot], longest=bridge_frames)
        rows[shot] = _filled(rows[shot])
        rows[shot] = _smoothed(rows[shot], frames=smoothing_frames)
    rows = _filled(rows)  # shots without any face take the nearest shot's place
    reasons = np.where(found_F, 0, np.where(turned_F, 2, 1))
    return FaceTrack(
        width=size[1],
        height=size[0],
        points_F32=rows[:, :6].reshape(-1, 3, 2),
        boxes_F4=rows[:, 6:],
        found_F=found_F,
        segments_F=segments_F,
        faceless=tuple(_runs(reasons)),
    )


def is_turned_away(points_32: np.ndarray) -> bool:
    """Whether the face is seen so far from the side that no mouth should be made."""
    brows = points_32[1] - points_32[0]
    nose = points_32[2] - (points_32[0] + points_32[1]) / 2
    below = float(
        brows[0] * nose[1] - brows[1] * nose[0]
    )  # times the brows' distance; negative when they swap sides
    return float(brows @ brows) < PROFILE * below or below <= 0


def _batches(pictures: Iterable[np.ndarray]) -> Iterator[tuple[int, list[np.ndarray]]]:
    stream, first = iter(pictures), 0
    while batch := list(islice(stream, DETECT_FRAMES)):
        yield first, batch
        first += len(batch)


def _shots(segments_F: np.ndarray) -> list[slice]:
    edges = [0, *(np.flatnonzero(np.diff(segments_F)) + 1).tolist(), len(segments_F)]
    return [slice(first, stop) for first, stop in zip(edges, edges[1:], strict=False) if stop > first]


def _bridged(found_F: np.ndarray, *, longest: int) -> np.ndarray:
    """Gaps of up to `longest` frames between found ones count as found."""
    bridged, places = found_F.copy(), np.flatnonzero(found_F)
    for before, after in zip(places, places[1:], strict=False):
        if after - before - 1 <= longest:
            bridged[before:after] = True
    return bridged


def _filled(rows_FN: np.ndarray) -> np.ndarray:
    """Missing rows (NaN) drawn between their neighbours in a straight line; at the ends the nearest one."""
    known = np.flatnonzero(~np.isnan(rows_FN[:, 0]))
    if not len(known):
        return rows_FN
    frames = np.arange(len(rows_FN))
    return np.stack([np.interp(frames, known, column[known]) for column in rows_FN.T], axis=1)


def _smoothed(rows_FN: np.ndarray, *, frames: float) -> np.ndarray:
    """Each row from a line fitted to its neighbours, weighted by a Gaussian `frames` wide.

    A line, not a mean: a head that moves at a steady pace stays where it is, so nothing lags.
    """
    if frames <= 0 or len(rows_FN) < 3 or np.isnan(rows_FN[0, 0]):
        return rows_FN
    reach = max(1, round(3 * frames))
    smooth = np.empty_like(rows_FN)
    for frame in range(len(rows_FN)):
        near = np.arange(max(0, frame - reach), min(len(rows_FN), frame + reach + 1))
        offset = (near - frame).astype(float)
        weight = np.exp(-0.5 * (offset / frames) ** 2)
        total, first, second = weight.sum(), weight @ offset, weight @ offset**2
        mean, slope = weight @ rows_FN[near], (weight * offset) @ rows_FN[near]
        smooth[frame] = (second * mean - first * slope) / (total * second - first * first)
    return smooth


def _runs(reasons_F: np.ndarray) -> Iterator[FacelessRun]:
    """Runs of equal reasons other than 0."""
    for run in _shots(reasons_F):
        if reasons_F[run.start]:
            reason = NO_FACE if reasons_F[run.start] == 1 else TURNED_AWAY
            yield FacelessRun(run.start, run.stop, reason)
