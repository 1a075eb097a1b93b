"""Windows in whole samples: LiveTalk's numbers, exact spacing, and what a chunk may depend on."""

from __future__ import annotations

from fractions import Fraction

import pytest

from talkstream.audio.rates import latent_frames
from talkstream.audio.windows import (
    FIELD_SAMPLES,
    HOP_SAMPLES,
    clip_samples,
    exact_period,
    plan_window,
    samples_for_features,
)


def features(samples: int) -> int:
    return (samples - FIELD_SAMPLES) // HOP_SAMPLES + 1


def test_numbers_of_the_livetalk_paper_code():
    """5 s: 81 vectors from 80000 samples and 249 features; 33 vectors line up exactly over 32400 samples."""
    assert clip_samples(81, uncovered_frames=1, fps_num=16) == 80000
    assert features(80000) == 249
    assert clip_samples(93, uncovered_frames=1, fps_num=16) == 92000
    assert clip_samples(81, uncovered_frames=0, fps_num=25) == 81 * 640
    assert exact_period(16, 1) == 8
    assert exact_period(25, 1) == 1
    assert samples_for_features(101) == 32400


def test_steady_windows_line_up_exactly_and_have_one_size():
    windows = [
        plan_window(latent_frames(3 * i, 3), past_frames=80, ahead_frames=8, fps_num=16) for i in range(9, 14)
    ]
    assert len({(w.stop - w.start, w.vectors) for w in windows}) == 1
    for i, w in enumerate(windows, start=9):
        assert (w.vectors - 1) % 8 == 0
        assert features(w.stop - w.start) - 1 == (w.vectors - 1) * 25 // 8
        assert w.first_frame + w.vectors - 1 == 12 * i + 8 + 8
        assert w.start == w.first_frame * 1000


@pytest.mark.parametrize(("num", "den"), [(16, 1), (25, 1), (24, 1), (30000, 1001)])
@pytest.mark.parametrize("ahead", [1, 8])
def test_vectors_stay_within_half_a_hop_of_their_frames(num, den, ahead):
    for chunk in range(12):
        frames = latent_frames(3 * chunk, 3)
        w = plan_window(frames, past_frames=80, ahead_frames=ahead, fps_num=num, fps_den=den)
        span = Fraction((features(w.stop - w.start) - 1) * HOP_SAMPLES, 16000)
        for vector in (0, w.vectors // 2, w.vectors - 1):
            heard = Fraction(w.start, 16000) + span * vector / (w.vectors - 1)
            shown = Fraction((w.first_frame + vector) * den, num)
            assert abs(heard - shown) < Fraction(HOP_SAMPLES, 16000)
        assert w.first_frame <= frames.start
        assert w.first_frame + w.vectors == frames.stop + ahead


@pytest.mark.parametrize(("num", "den"), [(16, 1), (25, 1), (24, 1), (30000, 1001)])
@pytest.mark.parametrize("ahead", [1, 8])
def test_support_ends_with_the_look_ahead(num, den, ahead):
    """With the resampling margin of 10 ms a window still ends before its last look-ahead frame does."""
    for chunk in range(12):
        frames = latent_frames(3 * chunk, 3)
        w = plan_window(frames, past_frames=80, ahead_frames=ahead, fps_num=num, fps_den=den)
        end = Fraction((frames.stop + ahead) * den, num)
        assert Fraction(w.stop, 16000) + Fraction(1, 100) <= end + Fraction(1, 500)
