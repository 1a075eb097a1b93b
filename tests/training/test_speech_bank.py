"""What the speech encoder learns from: clips of the domains that its settings name, and the faces they make."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.networks.speech_encoder import SpeechEncoderConfig
from talkstream.training.mini import MEL
from talkstream.training.speech import (
    FACE_NAMES,
    SpeechSettings,
    SpeechStage,
    faces_of,
    make_bank,
)
from talkstream.training.world.voices import is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="libespeak-ng is not installed")


def _bank(*domains, frames=100):
    return make_bank(
        SpeechSettings(clips=2, versions=1, quiet_share=0.0, clip_frames=frames, domains=domains),
        MEL,
        held_out=False,
    )


def test_each_clip_is_of_the_domain_whose_turn_it_is():
    spoken, both = _bank("speaking"), _bank("speaking", "singing")
    assert np.abs(spoken.mouth[0] - both.mouth[0]).mean() < 0.01
    assert np.abs(spoken.mouth[1] - both.mouth[1]).mean() > 0.05
    still = [
        (np.abs(np.diff(bank.mouth[1, :, 0])) < 0.01)[bank.mouth[1, 1:, 0] > 0.3] for bank in (both, spoken)
    ]
    assert still[0].mean() > still[1].mean() + 0.2, "sung vowels are held open"


def test_several_workers_speak_in_the_same_order():
    """Which clips are silent is drawn for each by its number; what is said differs a little by what was said before."""
    settings = SpeechSettings(clips=8, versions=2, clip_frames=50, quiet_share=0.5)
    one, two = (make_bank(settings, MEL, held_out=False, workers=workers) for workers in (1, 2))
    assert one.mel.shape == two.mel.shape == (16, 200, MEL.bins)
    silent = one.mouth.std(axis=1).max(axis=1) < 1e-6
    assert 0 < silent.sum() < 16
    assert np.array_equal(two.mouth.std(axis=1).max(axis=1) < 1e-6, silent)
    for bank in (one, two):
        assert np.array_equal(bank.mouth[0::2], bank.mouth[1::2])
        clean, augmented = bank.mel[0::2].astype(np.float32), bank.mel[1::2].astype(np.float32)
        assert (np.abs(clean - augmented).mean(axis=(1, 2)) > 0.01).all()


def test_faces_are_mouths_and_eyes_that_close_as_the_mouth_pauses():
    bank = _bank("speaking", frames=250)
    faces = faces_of(bank)
    assert faces.shape == (2, 250, len(FACE_NAMES))
    assert np.array_equal(faces[..., :5], bank.mouth)
    closed = faces[..., 5] < 0.2
    assert closed.any()
    assert (bank.mouth[..., 0][closed] < 0.03).all()


def test_the_stage_learns_and_its_figures_do_not_change_by_being_asked():
    bank = _bank("speaking")
    settings = SpeechSettings(clips=2, versions=1, clip_frames=100, crop_frames=60, batch=4)
    stage = SpeechStage(
        settings, SpeechEncoderConfig(bins=MEL.bins, width=16, hidden=24, blocks=2), bank, bank
    )
    before = stage.evaluate()
    assert set(before) == {"r_open", "r_width", "r_round", "r_eyes"}
    assert stage.evaluate() == before
    errors = [stage.step(step, 0.0)["face_mse"] for step in range(30)]
    assert np.mean(errors[-5:]) < 0.7 * np.mean(errors[:5])
    assert stage.evaluate()["r_open"] > before["r_open"] + 0.2


def test_unknown_domains_are_named():
    with pytest.raises(ValueError, match="humming"):
        SpeechSettings(domains=("humming",))
