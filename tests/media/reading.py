"""Test sounds, and what a player would see and hear of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch


@dataclass
class Decoded:
    """A decoded file: times in seconds, samples as float64 in [-1, 1]."""

    frame_times: list[float]
    frames: list[np.ndarray]  # (H, W, 3) uint8
    audio_start: float | None
    audio_CS: np.ndarray
    audio_rate: int
    audio_codec: str
    video_seconds: float
    audio_seconds: float
    metadata: dict[str, str]


def decode(path: Path, *, pictures: bool = False) -> Decoded:
    """Everything in the file, in playing order."""
    times, frames, sounds, start = [], [], [], None
    with av.open(str(path)) as container:
        audio = container.streams.audio[0] if container.streams.audio else None
        for packet in container.demux():
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    times.append(frame.time)
                    frames += [frame.to_ndarray(format="rgb24")] if pictures else []
                else:
                    start = frame.time if start is None else start
                    sounds.append(_samples(frame))
        return Decoded(
            frame_times=times,
            frames=frames,
            audio_start=start,
            audio_CS=np.concatenate(sounds, axis=1) if sounds else np.zeros((0, 0)),
            audio_rate=audio.rate if audio else 0,
            audio_codec=audio.codec_context.name if audio else "",
            video_seconds=_seconds(container.streams.video[0]),
            audio_seconds=_seconds(audio) if audio else 0.0,
            metadata=dict(container.metadata),
        )


def _seconds(stream) -> float:
    return float(stream.duration * stream.time_base) if stream.duration else 0.0


def _samples(frame: av.AudioFrame) -> np.ndarray:
    raw = frame.to_ndarray()
    if np.issubdtype(raw.dtype, np.integer):
        raw = raw.astype(np.float64) / (2.0 ** (8 * raw.dtype.itemsize - 1))
    if not frame.format.is_planar:
        raw = raw.reshape(-1, len(frame.layout.channels)).T
    return raw.astype(np.float64)


def click_train(rate: int, seconds: float, channels: int) -> torch.Tensor:
    """(C, S) float32: short noise bursts at uneven times, each channel its own noise, quiet between."""
    generator = np.random.default_rng(rate + channels)
    clip = np.zeros((channels, int(rate * seconds)), np.float32)
    length = max(8, rate // 250)
    for second in np.arange(0.1, seconds - 0.05, 0.237):
        at = int(second * rate)
        burst = generator.standard_normal((channels, length)).astype(np.float32) * 0.3
        clip[:, at : at + length] = burst[:, : clip.shape[1] - at]
    return torch.from_numpy(clip)


def delay_seconds(original_CS: torch.Tensor, heard: Decoded) -> float:
    """How much later than in the original the sound plays, with the first picture at time zero."""
    b = heard.audio_CS[0]
    a = original_CS[0, : len(b)].double().numpy()
    size = 1 << (len(a) + len(b) - 1).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    shift = int(np.argmax(likeness))
    shift = shift - size if shift > size // 2 else shift
    assert likeness.max() > 0.5 * np.sqrt((a**2).sum() * (b**2).sum()), "the sound is not the original"
    return shift / heard.audio_rate + heard.audio_start - heard.frame_times[0]


def pictures(count: int, *, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """(F, H, W, 3) uint8: smooth pictures that change from frame to frame."""
    y, x = np.mgrid[0:height, 0:width]
    frames = [
        np.stack([(x * 2 + n * 5 + seed) % 256, (y * 3 + n * 7) % 256, (x + y + n * 3) % 256], axis=-1)
        for n in range(count)
    ]
    return np.asarray(frames, np.uint8) if frames else np.zeros((0, height, width, 3), np.uint8)
