"""What the speech encoder learns from: clips of the domains that its settings name, in turn."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.training.mini import MEL
from talkstream.training.speech import SpeechSettings, make_bank
from talkstream.training.world.voices import is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="libespeak-ng is not installed")


def _bank(*domains):
    return make_bank(
        SpeechSettings(clips=2, versions=1, quiet_share=0.0, clip_frames=100, domains=domains),
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


def test_unknown_domains_are_named():
    with pytest.raises(ValueError, match="humming"):
        SpeechSettings(domains=("humming",))
