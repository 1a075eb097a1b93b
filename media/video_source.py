"""A video to work on, read frame by frame: right way up, 8-bit RGB, true times, never whole in memory."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from .source_sound import read_track
from .video_index import VideoIndex, index_video

log = logging.getLogger(__name__)

HD_SIDE = 720  # pixels: from here on a file that names no colour matrix means BT.709
UNNAMED_COLOUR = 2  # "unspecified" among the colour matrices


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One frame. index: counted from the first; seconds: when it is shown; picture: (H, W, 3) uint8 RGB."""

    index: int
    seconds: Fraction
    picture: np.ndarray


class Source(Protocol):
    """What lip sync asks of a video. Sizes are even: an odd last column or row is left off."""

    width: int
    height: int
    index: VideoIndex

    def frames(self, start: int = 0) -> Iterator[SourceFrame]:
        """Every frame from `start` on, in the order they are shown; each call reads anew."""
        ...

    def audio(self) -> dict[str, Tensor | int] | None:
        """Its sound as the AUDIO dict (waveform (1, C, S), sample_rate), or None; read at each call."""
        ...


class VideoSource:
    """A video file, opened anew by every iteration, so that several may run at once."""

    def __init__(
        self, file: str | Path | io.BytesIO, *, start_seconds: float = 0.0, seconds: float = 0.0
    ) -> None:
        """file: a path, or its bytes. The window starts at start_seconds; seconds 0: up to the end.

        Reads the times of all frames and decodes the first one. Raises ValueError, one sentence, for a file that
        is missing, broken, or without pictures.
        """
        self.name = Path(file).name if isinstance(file, str | Path) else "the video"
        self._file = file.getvalue() if isinstance(file, io.BytesIO) else Path(file)
        self._trimmed = bool(seconds)
        with self._open() as (container, stream):
            try:
                self.index = index_video(container, stream, start_seconds=start_seconds, seconds=seconds)
            except ValueError as error:
                raise ValueError(
                    f"{self.name} cannot be read as a video: {error}; use another file"
                ) from error
        first = next(self.frames())
        self.height, self.width = first.picture.shape[:2]

    @property
    def fps(self) -> Fraction:
        """Its frame rate; the usual one where it varies."""
        return self.index.fps

    @property
    def frame_count(self) -> int:
        """How many frames its packets hold."""
        return self.index.frames

    def frames(self, start: int = 0) -> Iterator[SourceFrame]:
        """Every frame from `start` on. A frame that cannot be decoded repeats the one before it, or the first good one.

        Raises ValueError where nothing can be decoded.
        """
        following, picture, held = start, None, 0
        for index, decoded in self._decoded(start):
            if index < following:
                continue
            while following < index:  # lost frames
                held += 1
                yield self._frame(following, decoded if picture is None else picture)
                following += 1
            picture = decoded
            yield self._frame(following, picture)
            following += 1
        if picture is None and following < self.index.frames:
            picture = self._last_before(start)
        while following < self.index.frames:
            held += 1
            yield self._frame(following, picture)
            following += 1
        if held:
            log.warning("%s: %d of its frames are damaged and repeat their neighbour", self.name, held)

    def audio(self) -> dict[str, Tensor | int] | None:
        """Its sound from the first frame on, as the AUDIO dict; None where it has none that can be decoded."""
        start = int(self.index.ticks[0]) * self.index.time_base
        length = self.index.seconds(self.index.frames - 1) + 1 / self.index.fps
        with self._open() as (container, _):
            track = read_track(container, start=start, seconds=length if self._trimmed else None)
        return None if track is None else {"waveform": track[0][None], "sample_rate": track[1]}

    def _frame(self, index: int, picture: np.ndarray) -> SourceFrame:
        return SourceFrame(index, self.index.seconds(index), picture)

    def _last_before(self, start: int) -> np.ndarray:
        """The last good picture before `start`, where none follows."""
        good = deque(self._decoded(0, stop=start), maxlen=1)
        if not good:
            raise ValueError(
                f"{self.name} cannot be read as a video: none of its frames decodes; use another file"
            )
        return good[0][1]

    def _decoded(self, start: int, *, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Frames of the index that decode, from the key frame before `start` on, with their places."""
        last = self.index.frames if stop is None else stop
        first_tick = int(self.index.ticks[0])
        with self._open() as (container, stream):
            if start or first_tick > 0:
                container.seek(int(self.index.ticks[self.index.key_before(start)]), stream=stream)
            convert = _Converter()
            for frame in _decode(container, stream):
                tick = frame.pts if frame.pts is not None else frame.dts
                if tick is None or tick < first_tick:
                    continue
                index = self.index.frame_at(tick)
                if tick > self.index.ticks[-1] or index >= last:
                    return
                if index >= start:
                    yield index, convert(frame)

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        source = io.BytesIO(self._file) if isinstance(self._file, bytes) else str(self._file)
        try:
            with av.open(source, metadata_errors="replace") as container:
                if not container.streams.video:
                    raise ValueError(f"{self.name} has no pictures; use a video file")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                yield container, stream
        except FileNotFoundError as error:
            raise ValueError(f"{self._file} does not exist; choose another video") from error
        except av.FFmpegError as error:
            raise ValueError(
                f"{self.name} cannot be read as a video ({error.strerror}); use another file, or convert it to MP4"
            ) from error


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Frames of the stream; damaged packets are left out."""
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.error.InvalidDataError:
            continue
        yield from decoded


class _Converter:
    """Frames to upright (H, W, 3) uint8 RGB. One for all frames: making a scaler costs more than using it."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """The frame as it is to be seen, with even sides."""
        rgb = self._reformatter.reformat(
            frame, format="rgb24", src_colorspace=_matrix(frame), dst_color_range=ColorRange.JPEG
        )
        picture = np.rot90(rgb.to_ndarray(), k=round(frame.rotation / 90) % 4)
        height, width = (side - side % 2 for side in picture.shape[:2])
        return np.ascontiguousarray(picture[:height, :width])


def _matrix(frame: av.VideoFrame) -> int:
    """The frame's colour matrix; players' guess by its size where the file names none."""
    if int(frame.colorspace) != UNNAMED_COLOUR:
        return int(frame.colorspace)
    return int(Colorspace.ITU709 if min(frame.width, frame.height) >= HD_SIDE else Colorspace.ITU601)


class PictureSource:
    """Pictures that are in memory already, as a video."""

    def __init__(
        self, pictures_FHWC: Tensor, *, fps: Fraction, audio: dict[str, Tensor | int] | None = None
    ) -> None:
        """pictures_FHWC: float in [0, 1], kept by reference; three channels or four, of which the last is dropped."""
        if pictures_FHWC.ndim != 4 or not len(pictures_FHWC):
            raise ValueError(
                f"got pictures of shape {tuple(pictures_FHWC.shape)}; expected (F, H, W, 3), F >= 1"
            )
        self._pictures_FHWC, self._audio = pictures_FHWC, audio
        self.height, self.width = (side - side % 2 for side in pictures_FHWC.shape[1:3])
        self.index = constant_index(len(pictures_FHWC), fps)

    @property
    def fps(self) -> Fraction:
        """Its frame rate."""
        return self.index.fps

    @property
    def frame_count(self) -> int:
        """How many pictures there are."""
        return self.index.frames

    @cached_property
    def name(self) -> str:
        """What to call it in a sentence."""
        return "the video"

    def frames(self, start: int = 0) -> Iterator[SourceFrame]:
        """Every picture from `start` on."""
        for index in range(start, self.index.frames):
            picture = self._pictures_FHWC[index, : self.height, : self.width, :3]
            levels = (picture.float() * 255.0).round().clamp(0, 255).byte().cpu().numpy()
            yield SourceFrame(index, self.index.seconds(index), np.ascontiguousarray(levels))

    def audio(self) -> dict[str, Tensor | int] | None:
        """The sound it came with, or None."""
        return self._audio


def constant_index(frames: int, fps: Fraction) -> VideoIndex:
    """Times of `frames` frames at a constant rate, each one a place to start from."""
    return VideoIndex(
        np.arange(frames, dtype=np.int64), np.ones(frames, bool), 1 / Fraction(fps), Fraction(fps), True
    )
