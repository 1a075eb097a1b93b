"""Mel front end: streamed equals whole, the past only, level followed."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.audio.mel import MelFrontEnd, MelSettings


@pytest.fixture(scope="module")
def front_end():
    return MelFrontEnd(MelSettings())


@pytest.fixture(scope="module")
def speech():
    random = np.random.default_rng(0)
    envelope = np.repeat(random.uniform(0, 0.3, 40), 400)
    return (envelope * random.standard_normal(16000)).astype(np.float32)


@pytest.mark.parametrize("piece", [1, 77, 160, 399, 4001])
def test_streamed_equals_whole(front_end, speech, piece):
    state = front_end.init_state()
    parts = [front_end.push(speech[at : at + piece], state) for at in range(0, len(speech), piece)]
    np.testing.assert_allclose(np.concatenate(parts), front_end.whole(speech), atol=1e-6)


def test_one_frame_per_hop_and_none_looks_ahead(front_end, speech):
    whole = front_end.whole(speech)
    assert whole.shape == (100, 40)
    changed = speech.copy()
    changed[50 * 160 :] = 0.5
    np.testing.assert_array_equal(front_end.whole(changed)[:50], whole[:50])
    assert np.abs(front_end.whole(changed)[50] - whole[50]).max() > 1e-3


def test_sessions_are_independent_and_a_new_state_is_fresh(front_end, speech):
    first, second = front_end.init_state(), front_end.init_state()
    a = front_end.push(speech[:8000], first)
    front_end.push(speech[::-1][:8000].copy(), second)
    b = front_end.push(speech[8000:], first)
    np.testing.assert_allclose(np.concatenate([a, b]), front_end.whole(speech), atol=1e-6)
    np.testing.assert_array_equal(front_end.push(speech, front_end.init_state()), front_end.whole(speech))


def test_level_is_followed(front_end):
    """After ten seconds at either level, a voice 20 dB softer reads nearly the same."""
    tone = np.sin(np.arange(160000) * 0.3).astype(np.float32)
    loud, soft = (front_end.whole(gain * tone)[-50:].max(axis=1).mean() for gain in (0.5, 0.05))
    assert soft == pytest.approx(loud, rel=0.15)


def test_silence_reads_zero(front_end):
    assert front_end.whole(np.zeros(16000, np.float32)).max() == 0.0


def test_refuses_two_channels(front_end):
    with pytest.raises(ValueError, match="mix the channels"):
        front_end.whole(np.zeros((2, 100), np.float32))
