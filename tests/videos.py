"""Small video files whose frames carry their number as a row of black and white blocks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BLOCK, BITS = 8, 8
UPRIGHT, TURNED = (1, 0, 0, 1), {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def numbered(number: int, *, width: int = 96, height: int = 64) -> np.ndarray:
    """(H, W, 3) uint8 grey picture with `number` in its first row of blocks, lowest bit first."""
    picture = np.full((height, width, 3), 100, np.uint8)
    for bit in range(BITS):
        picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 20
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number that a picture carries."""
    middle = picture[BLOCK // 2, BLOCK // 2 :: BLOCK, 0][:BITS].astype(int)
    return sum(1 << bit for bit in range(BITS) if middle[bit] > 127)


def write_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    fps: Fraction = Fraction(25),
    ticks: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 90000),
    pixels: str = "yuv420p",
    gop: int = 12,
    sound: bool = False,
) -> Path:
    """An H.264 file; ticks: when each picture is shown, in time_base, instead of a constant rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"qp": "4", "preset": "ultrafast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.codec_context.gop_size, stream.codec_context.max_b_frames = pixels, gop, 0
        if ticks is not None:
            stream.codec_context.time_base = time_base
        voice = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if ticks is None else ticks[number]
            frame.time_base = 1 / Fraction(fps) if ticks is None else time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            _write_sound(container, voice, seconds=len(pictures) / float(fps))
    return path


def _write_sound(container: av.container.OutputContainer, stream: av.AudioStream, *, seconds: float) -> None:
    samples = round(16000 * seconds)
    tone = (0.3 * np.sin(np.arange(samples) * 0.3)).astype(np.float32)[None]
    for first in range(0, samples, 1024):
        frame = av.AudioFrame.from_ndarray(tone[:, first : first + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, first, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def turn(path: Path, degrees: int) -> Path:
    """Sets the display matrix of an MP4's picture track, as phones do, by writing over its bytes."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 4 * 5 + 8 + 2 * 4
    a, b, c, d = TURNED[degrees]
    rows = (a, b, 0, c, d, 0)
    matrix = b"".join((value << 16 & 0xFFFFFFFF).to_bytes(4, "big") for value in rows)
    content[place : place + 24] = matrix
    path.write_bytes(content)
    return path
