"""The drawn world: speech and mouths in time with each other, heads that move with them, nearly the same clip twice."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.training.augment import augment, mask_mel, tilt_mel, warp_mel
from talkstream.training.world.acting import DOMAINS, free_acting, spoken_acting
from talkstream.training.world.pose import POSE_NAMES
from talkstream.training.world.sentences import nonsense
from talkstream.training.world.visemes import VISEMES, Phoneme, mouth_track, visemes_of
from talkstream.training.world.voices import is_available

needs_espeak = pytest.mark.skipif(not is_available(), reason="libespeak-ng is not installed")


def test_track_follows_the_phonemes():
    track = mouth_track([Phoneme("a", 0.4, 0.8), Phoneme("m", 0.8, 1.0)], 40)
    assert track.shape == (40, 5)
    assert track[:8, 0].max() < 0.01
    assert track[14, 0] == pytest.approx(VISEMES["AA"][0], abs=0.02)
    assert track[22, 0] < 0.05


def test_unknown_phonemes_fall_back_to_their_prefix():
    assert visemes_of("aI3") == ("AA", "IH")
    assert visemes_of("%%") == ("rest",)


def test_spoken_motion_blinks_at_pauses_and_starts_level():
    mouth = np.zeros((60, 5), np.float32)
    mouth[5:25, 0] = 0.6
    pose = dict(
        zip(
            POSE_NAMES,
            spoken_acting(np.random.default_rng(0), mouth, np.zeros(60), "speaking").T,
            strict=True,
        )
    )
    assert pose["eyes_open"][26:32].min() == 0.0
    assert (pose["eyes_open"][:25] == 1.0).all()
    assert pose["x"][0] == pose["tilt"][0] == pose["yaw"][0] == 0.0


def test_free_motion_starts_with_open_eyes():
    for seed, domain in enumerate(DOMAINS):
        first = free_acting(np.random.default_rng(seed), 30, domain)[0]
        assert first[POSE_NAMES.index("eyes_open")] == 1.0


def test_augmented_speech_keeps_its_place_in_time():
    random = np.random.default_rng(1)
    wave = np.zeros(16000, np.float32)
    wave[6000:9000] = 0.3 * random.standard_normal(3000)
    for _ in range(10):
        loud = np.abs(augment(wave, random))
        assert loud.shape == wave.shape and np.isfinite(loud).all() and loud.max() <= 1.0
        energy = (loud**2).reshape(16, 1000).mean(axis=1)
        assert energy.argmax() in (6, 7, 8)


@needs_espeak
def test_speech_and_mouth_agree_and_seeds_nearly_repeat():
    from talkstream.training.world.clips import random_clip

    clip = random_clip(3, 50, side=32, held_out=False)
    again = random_clip(3, 50, side=32, held_out=False)
    assert np.abs(clip.frames.astype(int) - again.frames).mean() < 1.0  # espeak-ng's timings jitter a little
    assert np.abs(clip.mouth - again.mouth).max() < 0.2
    assert clip.frames.shape == (50, 32, 32, 3) and clip.samples.shape == (32000,)
    loudness = np.sqrt((clip.samples.reshape(50, 640) ** 2).mean(axis=1))
    assert np.corrcoef(loudness, clip.mouth[:, 0])[0, 1] > 0.3


def test_silence_becomes_the_noise_of_a_room():
    levels = []
    for seed in range(8):
        noise = augment(np.zeros(16000, np.float32), np.random.default_rng(seed))
        levels.append(20 * np.log10(np.sqrt((noise**2).mean())))
    assert -75.1 < min(levels) < max(levels) < -24.9
    assert max(levels) - min(levels) > 15


def test_invented_sentences_differ_and_can_be_spoken():
    sentences = {nonsense(np.random.default_rng(seed)) for seed in range(50)}
    assert len(sentences) == 50
    assert all(3 <= len(sentence.split()) <= 12 and sentence.endswith(".") for sentence in sentences)


def test_warped_mel_moves_bins_and_nothing_else():
    """A ramp along the bins shows where each bin was read: in order, elsewhere, the same in all frames."""
    ramp = np.tile(np.arange(40, dtype=np.float32), (200, 6, 1))
    read = warp_mel(ramp, np.random.default_rng(3))
    assert read.shape == ramp.shape
    assert read.dtype == np.float32
    assert (np.diff(read, axis=2) >= 0).all()
    assert (read == read[:, :1]).all()
    moved = read[:, 0, 20] - 20
    assert -5 < moved.min() < -2 < 2 < moved.max() < 6
    assert abs(moved.mean()) < 0.5
    one = np.zeros((1, 6, 40), np.float32)
    assert (warp_mel(one, np.random.default_rng(3)) == 0).all()


def test_tilted_mel_has_a_smooth_gain_of_its_own_for_each_clip():
    even = np.ones((300, 6, 40), np.float32)
    gain = tilt_mel(even, np.random.default_rng(3))
    assert gain.dtype == np.float32
    assert (gain == gain[:, :1]).all()
    assert 0.2 < np.log(gain).std() < 0.3
    assert np.abs(np.diff(np.log(gain[:, 0]), axis=1)).mean() < 0.06
    assert np.abs(np.log(gain).mean()) < 0.03


def test_masked_mel_lacks_some_bins_and_some_frames():
    even = np.ones((200, 100, 40), np.float32)
    masked = mask_mel(even, np.random.default_rng(3))
    assert (even == 1).all()
    bins, frames = (masked == 0).all(axis=1).sum(axis=1), (masked == 0).all(axis=2).sum(axis=1)
    assert bins.max() <= 12 and frames.max() <= 24
    assert 4 < bins.mean() < 7 and 9 < frames.mean() < 13
    kept = (masked == 1) == ~((masked == 0).all(axis=1)[:, None] | (masked == 0).all(axis=2)[:, :, None])
    assert kept.all()
