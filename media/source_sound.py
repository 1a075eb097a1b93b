"""The sound of a video file, cut to the pictures: sample 0 plays when frame 0 is shown."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.container import InputContainer
from torch import Tensor


def read_track(
    container: InputContainer, *, start: Fraction, seconds: Fraction | None
) -> tuple[Tensor, int] | None:
    """(C, S) float32 at its own rate and channels, and that rate; None without a track that can be decoded.

    start: when the first picture is shown, in the file's time; sound from before is left off, a late one begins
    with silence. seconds: length to cut it to, or None.
    """
    stream = next((track for track in container.streams.audio if track.codec_context is not None), None)
    if stream is None:
        return None
    blocks = list(_blocks(container, stream, start=start, seconds=seconds))
    if not blocks:
        return None
    rate = int(blocks[0].sample_rate)
    samples_CS = np.concatenate([block.to_ndarray() for block in blocks], axis=1)
    late = round((_begins(blocks[0]) - start) * rate)
    samples_CS = np.pad(samples_CS, ((0, 0), (late, 0))) if late > 0 else samples_CS[:, -late:]
    if seconds is not None:
        samples_CS = samples_CS[:, : round(seconds * rate)]
    return torch.from_numpy(np.ascontiguousarray(samples_CS)), rate


def _blocks(
    container: InputContainer, stream: AudioStream, *, start: Fraction, seconds: Fraction | None
) -> Iterator[av.AudioFrame]:
    """Decoded blocks that reach into the window; damaged packets are left out."""
    planar = av.AudioResampler(format="fltp")
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue
        for block in (piece for frame in decoded for piece in planar.resample(frame)):
            begins = _begins(block)
            if begins + Fraction(block.samples, block.sample_rate) <= start:
                continue
            if seconds is not None and begins >= start + seconds:
                return
            yield block


def _begins(block: av.AudioFrame) -> Fraction:
    return Fraction(0) if block.pts is None else block.pts * Fraction(block.time_base)
