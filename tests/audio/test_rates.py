"""Counts against rational arithmetic, and the length rule on awkward clips."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest

from talkstream.audio.rates import (
    common_block,
    frame_count,
    frames_in_latents,
    latent_frames,
    latents_for_frames,
    resampled_length,
    sample_at_frame,
)

RATES = (8000, 11025, 16000, 22050, 44100, 44099, 48000, 96000)
FPS = ((16, 1), (25, 1), (24000, 1001), (30000, 1001))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("num", "den"), FPS)
def test_frame_count_is_the_nearest_whole_number(rate, num, den):
    for samples in (0, 1, rate // 40, rate // 3, rate, 61 * rate + rate // 33, 36000 * rate + 7):
        exact = Fraction(samples * num, rate * den)
        assert frame_count(samples, rate, fps_num=num, fps_den=den) == max(1, floor(exact + Fraction(1, 2)))


@pytest.mark.parametrize(
    ("seconds", "frames"), [("0.3", 5), ("1", 16), ("6.37", 102), ("61.03", 976), ("0", 1), ("0.03125", 1)]
)
def test_frame_count_at_sixteen_fps(seconds, frames):
    for rate in (16000, 44100, 48000):
        samples = round(Fraction(seconds) * rate)
        assert frame_count(samples, rate, fps_num=16) == frames


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("num", "den"), FPS)
def test_sample_at_frame_stays_within_half_a_sample(rate, num, den):
    for frame in (-7, 0, 1, 3, 12, 1000, 10**7 + 1):
        exact = Fraction(frame * rate * den, num)
        got = sample_at_frame(frame, rate, fps_num=num, fps_den=den)
        assert abs(got - exact) <= Fraction(1, 2)


def test_latents_and_frames_invert_each_other():
    for frames in range(1, 200):
        latents = latents_for_frames(frames)
        assert frames_in_latents(latents - 1) < frames <= frames_in_latents(latents)
    assert [len(latent_frames(3 * i, 3)) for i in range(3)] == [9, 12, 12]
    assert latent_frames(3, 3) == range(9, 21)


def test_resampling_counts():
    assert common_block(44100, 16000) == (441, 160)
    assert common_block(16000, 16000) == (1, 1)
    assert resampled_length(44101, 44100, 16000) == 16001


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="sample rate is 0"):
        frame_count(10, 0, fps_num=16)
    with pytest.raises(ValueError, match="fps_num is -1"):
        sample_at_frame(1, 16000, fps_num=-1)
    with pytest.raises(ValueError, match="at least one"):
        latents_for_frames(0)
