"""The video file that grows while it is made.

While running it is a fragmented MP4 named <name>_partial.mp4: all that was written but the last two frames plays,
whatever happens to the process. finish() copies its packets into <name>.mp4 with the index in front, without
encoding again.
Frame n is shown at n / fps exactly; there are no B-frames, so decoding order is showing order.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from fractions import Fraction
from math import floor
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from .audio_track import AudioTrack
from .containers import RUNNING, explained, free_partial_path, open_container, rewrite

log = logging.getLogger(__name__)

BT709 = 1  # matrix, primaries and transfer all have this number

# Encoder, and what it needs besides quality: no frames out of order, none held back for later. Looking ahead would
# make files a tenth smaller, and lose the last second to a process that is killed.
VIDEO_CODECS = {
    "h264": ("libx264", {"bf": "0", "tune": "zerolatency"}),
    "vp9": (
        "libvpx-vp9",
        {
            "b": "0",
            "row-mt": "1",
            "deadline": "good",
            "cpu-used": "4",
            "auto-alt-ref": "0",
            "lag-in-frames": "0",
        },
    ),
}
VideoCodec = Literal["h264", "vp9"]
SMALL_PICTURE = 256 * 256  # pixels; slices so thin that threads wait for each other longer than they work


class VideoWriter:
    """Frames in, MP4 out. Close with finish() or abort(), or use `with`, which aborts on an exception."""

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        audio: tuple[Tensor, int] | None = None,
        codec: VideoCodec = "h264",
        quality: float = 18,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """path: the finished file. audio: (C, S) float samples and their rate, kept by reference.

        quality: the encoder's CRF, smaller is better. metadata: text by key ("prompt", "workflow"). Raises
        ValueError for a size, codec or sound that MP4 cannot hold, OSError where the folder cannot be written.
        """
        _check_format(width, height, codec)
        self.path = Path(path)
        self.width, self.height, self.fps = width, height, Fraction(fps)
        self.frames_written = 0
        self._metadata = dict(metadata or {})
        self._closed = False
        with explained(self.path):
            self.partial_path = free_partial_path(self.path)
            self._reformatter = VideoReformatter()
            self._container = open_container(self.partial_path, RUNNING, self._metadata)
        try:
            self._video = self._add_video(codec, quality)
            self._audio = AudioTrack(self._container, *audio) if audio is not None else None
            with explained(self.path):
                self._container.start_encoding()
        except BaseException:
            self.abort()
            raise

    @property
    def seconds(self) -> float:
        """Length of what was written."""
        return float(self.frames_written / self.fps)

    def write(self, frames_FHWC: Tensor | np.ndarray) -> None:
        """Append (F, H, W, 3) uint8 RGB frames and the sound that plays during them."""
        if self._closed:
            raise ValueError(f"{self.path.name} is closed; open a new VideoWriter")
        for picture in self._checked(frames_FHWC):
            with explained(self.path, kept=self.partial_path):
                self._write_frame(picture)

    def finish(self) -> Path:
        """Complete the file, put its index in front, and give its path. Raises ValueError without frames."""
        if not self.frames_written:
            self.abort()
            raise ValueError(f"no frame was written to {self.path.name}; nothing was saved")
        with explained(self.path, kept=self.partial_path):
            self._drain()
            rewrite(self.partial_path, self.path, self._metadata)
        self.partial_path.unlink()
        return self.path

    def abort(self) -> Path | None:
        """Keep what there is as <name>_partial.mp4, with its sound; None where nothing was written.

        Does not raise for a full disk or a broken encoder: what is on the disk already plays.
        """
        try:
            self._drain()
            if self.frames_written:
                rewrite(self.partial_path, self.partial_path, self._metadata)
        except (OSError, av.FFmpegError) as error:
            log.warning("%s stays as it is on the disk: %s", self.partial_path, error)
        if not self.frames_written:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self.partial_path.unlink()
            return None
        return self.partial_path

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._closed:
            _ = self.finish() if kind is None else self.abort()

    def _add_video(self, codec: str, quality: int) -> VideoStream:
        encoder, options = VIDEO_CODECS[codec]
        stream = self._container.add_stream(encoder, rate=self.fps, options={"crf": str(quality), **options})
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        if self.width * self.height <= SMALL_PICTURE:
            stream.codec_context.thread_count = 1
        context = stream.codec_context
        context.time_base = 1 / self.fps
        context.gop_size = max(1, round(self.fps))  # a place to jump to every second
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        if codec == "vp9":
            context.bit_rate = 0  # else the quality is only a floor
        return stream

    def _write_frame(self, picture_HWC: np.ndarray) -> None:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
        frame = self._reformatter.reformat(  # one for all frames: making it costs more than using it
            frame,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = self.frames_written, 1 / self.fps
        self._container.mux(self._video.encode(frame))
        self.frames_written += 1
        if self._audio is not None:
            for packet in self._audio.encode_until(self._sample_at(self.frames_written)):
                self._container.mux(packet)

    def _sample_at(self, frame: int) -> int:
        """Sample that plays when `frame` appears, to the nearest."""
        return floor(Fraction(frame * self._audio.sample_rate) / self.fps + Fraction(1, 2))

    def _sound_end(self) -> int:
        """All of the sound where the pictures cover it to half a frame; else cut where the pictures end."""
        frames = max(1, floor(self._audio.samples * self.fps / self._audio.sample_rate + Fraction(1, 2)))
        covered = frames <= self.frames_written
        return self._audio.samples if covered else self._sample_at(self.frames_written)

    def _drain(self) -> None:
        """The encoders' last packets into the running file, then its end. Once."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.frames_written:
                self._container.mux(self._video.encode(None))
                if self._audio is not None:
                    for packet in self._audio.encode_rest(self._sound_end()):
                        self._container.mux(packet)
        finally:
            self._container.close()

    def _checked(self, frames_FHWC: Tensor | np.ndarray) -> np.ndarray:
        pictures = frames_FHWC.cpu().numpy() if isinstance(frames_FHWC, torch.Tensor) else frames_FHWC
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (self.height, self.width, 3):
            raise ValueError(
                f"got frames {pictures.shape} {pictures.dtype}; expected (F, {self.height}, {self.width}, 3) uint8"
            )
        return pictures


def _check_format(width: int, height: int, codec: str) -> None:
    if codec not in VIDEO_CODECS:
        raise ValueError(f"codec is {codec!r}; allowed: {', '.join(VIDEO_CODECS)}")
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise ValueError(
            f"the pictures are {width}x{height}; a video needs an even width and height: change the size in "
            f"Encode Reference to {max(2, width + width % 2)}x{max(2, height + height % 2)}"
        )
