"""Songs and rare sounds of the drawn world, and the domains that clips belong to."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.training.world.acting import DOMAINS
from talkstream.training.world.dataset import DatasetSize, generate, load
from talkstream.training.world.pose import POSE_NAMES
from talkstream.training.world.rare import language, rare_sentence
from talkstream.training.world.singing import held_vowel, sing
from talkstream.training.world.visemes import VISEMES, mouth_track, visemes_of
from talkstream.training.world.voices import Voice, is_available, speak

needs_espeak = pytest.mark.skipif(not is_available(), reason="libespeak-ng is not installed")
RATE = 22050


def _hertz(wave: np.ndarray, near: float) -> float:
    """Pitch by autocorrelation, among 0.8 to 1.25 times what is expected."""
    lags = np.arange(round(RATE / near / 1.25), round(RATE / near / 0.8))
    centred = wave - wave.mean()
    likeness = [np.dot(centred[:-lag], centred[lag:]) / (len(centred) - lag) for lag in lags]
    return RATE / float(lags[int(np.argmax(likeness))])


def test_a_held_vowel_lasts_as_asked_at_the_pitch_that_was_asked():
    period = 180
    marks = np.arange(60, 3600, period)
    pulses = np.zeros(3700)
    pulses[marks] = 1.0
    spoken = np.convolve(pulses, np.exp(-np.arange(90) / 12) * np.cos(np.arange(90) * 0.4))[:3700]
    for ratio in (0.75, 1.0, 1.5):
        sung = held_vowel(spoken, marks, samples=20000, ratio=ratio, rate=RATE, glides=False)
        assert len(sung) == 20000
        expected = RATE / period * ratio
        for start in (1000, 8000, 15000):
            assert _hertz(sung[start : start + 3000], expected) == pytest.approx(expected, rel=0.03)


@needs_espeak
def test_sung_vowels_hold_in_the_mouth_and_in_the_sound():
    song = sing(
        "Nobody was watching the old man in the garden.",
        Voice("en-us+m3", 150, 50, 60),
        np.random.default_rng(1),
    )
    assert len(song.notes) >= 5
    assert song.speech.phonemes[-1].end_seconds == pytest.approx(len(song.speech.samples) / RATE, abs=0.01)
    frames = int(song.speech.phonemes[-1].end_seconds * 25)
    mouth = mouth_track(song.speech.phonemes, frames)
    for note in song.notes:
        length = note.end_seconds - note.start_seconds
        assert 0.39 < length < 1.51
        shape = next(p for p in song.speech.phonemes if p.start_seconds == pytest.approx(note.start_seconds))
        held = min(shape.end_seconds, note.end_seconds)
        rows = mouth[int(note.start_seconds * 25) + 3 : int(held * 25) - 3]
        assert np.abs(rows - np.asarray(VISEMES[visemes_of(shape.name)[0]])).max() < 0.02
        first, last = (round((note.start_seconds + share * length) * RATE) for share in (0.35, 0.65))
        wave = song.speech.samples[first:last]
        assert np.sqrt((wave**2).mean()) > 0.01
        assert _hertz(wave, note.hertz) == pytest.approx(note.hertz, rel=0.05)


@needs_espeak
def test_rare_sentences_are_full_of_rare_sounds():
    random = np.random.default_rng(0)
    rare = ("T", "D", "Z", "OI", "U", "j", "dZ", "tS", "N", "u:", "w", "h", "i@", "e@", "O@")
    for name in ("en-us+m1", "gmw/en+f2"):
        voice = Voice(name, 150, 50, 50)
        spoken = [p.name for _ in range(6) for p in speak(rare_sentence(random, name), voice).phonemes]
        sounds = [sound for sound in spoken if not sound.startswith("_")]
        assert np.mean([sound.startswith(rare) for sound in sounds]) > 0.5
    assert {language(name) for name in ("es+m1", "gmw/en+f1", "fr+m2", "en-gb-x-rp+f1")} == {"es", "en", "fr"}


def test_domains_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="expected some of speaking, singing, profile, rare"):
        DatasetSize(clips=1, frames=5, side=32, domains=("dancing",))
    with pytest.raises(ValueError, match="domains are \\[\\]"):
        DatasetSize(clips=1, frames=5, side=32, domains=())


@needs_espeak
def test_a_data_set_holds_its_domains_and_what_is_true_of_every_frame(tmp_path):
    size = DatasetSize(clips=10, frames=9, side=32, domains=DOMAINS, motion="spoken")
    generate(tmp_path, size, workers=1)
    data = load(tmp_path)
    assert data.pose.shape == (10, 9, len(POSE_NAMES)) and data.place.shape == (10, 9, 4)
    assert data.domain.dtype == np.int8 and set(np.unique(data.domain)) == {0, 1, 2, 3}
    centre, half = data.place[..., :2], data.place[..., 2:]
    assert (centre - half > 0).all() and (centre + half < 1).all()
    stamp = (tmp_path / "frames.npy").stat().st_mtime_ns
    generate(tmp_path, size, workers=1)
    assert (tmp_path / "frames.npy").stat().st_mtime_ns == stamp
