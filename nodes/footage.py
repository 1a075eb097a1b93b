"""The host's VIDEO as a source that is read frame by frame."""

from __future__ import annotations

from fractions import Fraction

from comfy_api.latest import Input, InputImpl

from ..media.video_source import PictureSource, Source, VideoSource


def open_source(video: Input.Video) -> Source:
    """A file is read from the disk, within its trim; pictures that are in memory already are used as they are.

    Raises ValueError, one sentence, for a file that cannot be read.
    """
    if isinstance(video, InputImpl.VideoFromComponents):
        parts = video.get_components()
        return PictureSource(parts.images, fps=Fraction(parts.frame_rate), audio=parts.audio)
    start_seconds, seconds = video.get_active_trim_window()
    return VideoSource(video.get_stream_source(), start_seconds=start_seconds, seconds=seconds)
