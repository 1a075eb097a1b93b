"""Which stretch of the voice a chunk hears, in whole samples.

A wav2vec2 feature looks at 400 samples and the next one starts 320 later (16 kHz). The transformer runs on one
vector per video frame, interpolated between features, so a window of N vectors asks for features that span
exactly N - 1 frames (LiveTalk: 25 features every 8 frames at 16 fps).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

from .rates import sample_at_frame

SPEECH_RATE = 16000
FIELD_SAMPLES = 400
HOP_SAMPLES = 320


@dataclass(frozen=True)
class SpeechWindow:
    """Samples [start, stop) at 16 kHz give `vectors` vectors, the first at frame `first_frame`."""

    start: int
    stop: int
    first_frame: int
    vectors: int


def exact_period(fps_num: int, fps_den: int) -> int:
    """Fewest frames that last a whole number of feature hops: 8 at 16 fps, 1 at 25 fps."""
    return (fps_num * HOP_SAMPLES) // gcd(SPEECH_RATE * fps_den, fps_num * HOP_SAMPLES)


def plan_window(
    frames: range, *, past_frames: int, ahead_frames: int, fps_num: int, fps_den: int = 1
) -> SpeechWindow:
    """Window of a chunk that shows `frames`: some past, the chunk, some look-ahead.

    The past grows by less than exact_period() frames where that makes vectors and features line up exactly;
    it is cut at the start of the clip (nothing is invented before it). The look-ahead is never stretched.
    """
    last = frames.stop - 1 + ahead_frames
    period = exact_period(fps_num, fps_den)
    span = len(frames) - 1 + ahead_frames + past_frames
    if period <= max(past_frames, 1):  # an odd frame rate would stretch the past without end
        span = -(-span // period) * period
    first = max(0, last - span)
    start = sample_at_frame(first, SPEECH_RATE, fps_num=fps_num, fps_den=fps_den)
    features = (last - first) * SPEECH_RATE * fps_den // (fps_num * HOP_SAMPLES) + 1
    return SpeechWindow(start, start + samples_for_features(features), first, last - first + 1)


def samples_for_features(features: int) -> int:
    """Samples that give exactly `features` features."""
    return FIELD_SAMPLES + HOP_SAMPLES * (features - 1)


def clip_samples(vectors: int, *, uncovered_frames: int, fps_num: int, fps_den: int = 1) -> int:
    """Samples at 16 kHz that a whole clip of `vectors` vectors is encoded from.

    uncovered_frames 1: the first vector sits at the start and the last one at the end of the stretch (LiveTalk
    cuts a clip of 4F - 3 frames at 4F - 4); 0: each vector covers its frame (Lip Forcing).
    """
    samples = sample_at_frame(vectors - uncovered_frames, SPEECH_RATE, fps_num=fps_num, fps_den=fps_den)
    return max(samples, SPEECH_RATE // 10)


def places_around(first_frame: int, frames: int, *, window: int) -> Tensor:
    """Feature places (frames, window) around each of these frames: an odd window, the frame in its middle."""
    around = torch.arange(window) - window // 2
    return torch.arange(first_frame, first_frame + frames)[:, None] + around


def mirrored(places: Tensor, count: int) -> Tensor:
    """Places in a track of `count` features: before it the first one, behind it the track backwards and so on."""
    folded = places.clamp_min(0) % (2 * count)
    return torch.where(folded < count, folded, 2 * count - 1 - folded)
