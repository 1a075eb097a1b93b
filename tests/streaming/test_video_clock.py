"""Which picture and which mouth a frame of the result takes, counted by hand and by fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from talkstream.streaming.video_clock import ModelRun, Mouths, ping_pong, video_clock

RATES = [Fraction(text) for text in ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60")]


def constant(frames: int, fps: Fraction, **rest: object):
    return video_clock(np.arange(frames), time_base=1 / fps, fps=fps, **rest)


def test_ping_pong():
    assert [ping_pong(frame, 4) for frame in range(13)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    assert [ping_pong(frame, 1) for frame in range(3)] == [0, 0, 0]
    assert [ping_pong(frame, 2) for frame in range(5)] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("fps", RATES)
def test_a_result_frame_shows_its_own_picture(fps):
    clock = constant(20, fps)
    assert [clock.source_of(frame) for frame in range(40)] == [ping_pong(frame, 20) for frame in range(40)]


@pytest.mark.parametrize("fps", RATES)
def test_the_nearest_mouth_or_a_blend(fps):
    clock, generated = constant(500, fps), 100
    for frame in range(int(3.9 * fps)):
        time = frame * 25 / fps
        mouths = clock.mouths_of(frame, generated=generated)
        place = mouths.first * (1 - mouths.weight) + mouths.second * mouths.weight
        assert abs(place - time) <= (0 if fps > 30 else Fraction(1, 2))
        assert mouths.second - mouths.first in (0, 1)


def test_25_and_50_take_mouths_one_by_one():
    at_25, at_50 = constant(99, Fraction(25)), constant(99, Fraction(50))
    assert [at_25.mouths_of(k, generated=9).first for k in range(9)] == list(range(9))
    assert at_50.mouths_of(6, generated=9) == Mouths(3, 3, Fraction(0))
    assert at_50.mouths_of(7, generated=9) == Mouths(3, 4, Fraction(1, 2))
    assert at_50.mouths_of(17, generated=9) == Mouths(8, 8, Fraction(0))


@pytest.mark.parametrize("fps", RATES)
def test_model_frames_are_made_from_what_is_on_the_screen(fps):
    clock = constant(1000, fps)
    for frame in range(250):
        assert abs(Fraction(clock.source_of_model(frame)) / fps - Fraction(frame, 25)) <= 1 / (2 * fps)


@pytest.mark.parametrize("fps", RATES)
def test_ready_frames_do_not_change_when_more_is_made(fps):
    clock = constant(1000, fps)
    for generated in (1, 2, 9, 21, 33, 100):
        ready = clock.ready(generated)
        assert [clock.mouths_of(k, generated=generated) for k in range(ready)] == [
            clock.mouths_of(k, generated=10**6) for k in range(ready)
        ]
        if generated > 1:
            assert Fraction(ready * 25) / fps >= generated - 1  # and none waits that need not


@pytest.mark.parametrize("fps", RATES)
def test_the_length_is_the_voices_to_the_frame(fps):
    clock = constant(5, fps)
    for samples in (0, 1, 16000, 160_001, 9_600_000):
        assert clock.output_frames(samples, 16000) == max(
            1, int(Fraction(samples, 16000) * fps + Fraction(1, 2))
        )


def test_a_variable_rate_shows_what_was_on_the_screen():
    """At 30 fps: frame 2 stays for three intervals, frame 4 comes and goes within one."""
    ticks = np.array([0, 3000, 6000, 15000, 16000, 18000])
    clock = video_clock(ticks, time_base=Fraction(1, 90000), fps=Fraction(30))
    assert clock.sources_K.tolist() == [0, 1, 2, 2, 2, 4, 5]


def test_times_that_tremble_still_show_every_frame_once():
    steps = np.array([0, 33, 67, 100, 133, 167, 200, 233])
    clock = video_clock(steps, time_base=Fraction(1, 1000), fps=Fraction(30))
    assert clock.sources_K.tolist() == list(range(8))


def test_ten_hours_are_exact():
    frames = 10 * 3600 * 60
    clock = video_clock(np.arange(frames) * 1001, time_base=Fraction(1, 60000), fps=Fraction(60000, 1001))
    assert np.array_equal(clock.sources_K, np.arange(frames))
    assert clock.source_of(frames - 1) == frames - 1
    assert clock.source_of_model(25 * 35000) == round(Fraction(35000 * 60000, 1001))


def test_mouths_do_not_cross_a_cut():
    """50 fps, a cut at frame 9: frame 9 lies between mouths 4 (other shot) and 5; frame 8 at mouth 4."""
    clock = constant(20, Fraction(50), segments_F=np.repeat([0, 1], [9, 11]))
    assert clock.mouths_of(7, generated=10) == Mouths(3, 4, Fraction(1, 2))
    assert clock.mouths_of(8, generated=10) == Mouths(4, 4, Fraction(0))
    assert clock.mouths_of(9, generated=10) == Mouths(5, 5, Fraction(0))
    assert clock.model_runs(10) == [ModelRun(0, 5, 0), ModelRun(5, 10, 1)]


def test_a_shot_without_a_model_frame_stays_as_it_is():
    clock = constant(20, Fraction(50), segments_F=np.repeat([0, 1, 2], [9, 1, 10]))
    assert clock.mouths_of(9, generated=10) is None
    assert clock.model_runs(10) == [ModelRun(0, 5, 0), ModelRun(5, 10, 2)]


def test_the_way_back_crosses_the_cut_again():
    clock = constant(6, Fraction(25), segments_F=np.array([0, 0, 0, 1, 1, 1]))
    assert clock.model_runs(11) == [ModelRun(0, 3, 0), ModelRun(3, 8, 1), ModelRun(8, 11, 0)]


def test_impossible_clocks_are_refused():
    with pytest.raises(ValueError, match="0 frames"):
        video_clock(np.array([], np.int64), time_base=Fraction(1), fps=Fraction(25))
    with pytest.raises(ValueError, match="shot numbers"):
        constant(3, Fraction(25), segments_F=np.zeros(2))
