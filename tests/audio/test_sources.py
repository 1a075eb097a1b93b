"""Reading by index, from a clip and from a voice that is still arriving."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkstream.audio.sources import ClipSource, LiveSource


@pytest.fixture
def clip() -> torch.Tensor:
    return torch.randn(3, 1000, generator=torch.Generator().manual_seed(3))


def test_reads_are_the_channel_mean_with_silence_outside(clip):
    source = ClipSource(clip, 16000)
    mono = clip.numpy().mean(axis=0, dtype=np.float32)
    assert np.array_equal(source.read(0, 1000), mono)
    assert np.array_equal(source.read(-5, 10), np.r_[np.zeros(5, np.float32), mono[:10]])
    assert np.array_equal(source.read(990, 1010), np.r_[mono[990:], np.zeros(10, np.float32)])
    assert not source.read(2000, 2005).any()
    assert not source.read(-9, -5).any()
    assert source.read(7, 7).shape == (0,)


def test_a_read_does_not_touch_the_clip(clip):
    kept = clip.clone()
    part = ClipSource(clip[:1], 16000).read(0, 1000)
    part += 1
    assert torch.equal(clip, kept)


@pytest.mark.parametrize("pieces", [[1000], [1, 999], [300, 300, 400], [10] * 100])
def test_pushed_samples_read_like_the_clip(clip, pieces):
    live, whole, first = LiveSource(16000), ClipSource(clip, 16000), 0
    for count in pieces:
        live.push(clip[:, first : first + count])
        first += count
        assert np.array_equal(live.read(-3, first), whole.read(-3, first))
    assert live.length is None
    live.close()
    assert live.length == 1000
    assert np.array_equal(live.read(995, 1020), whole.read(995, 1020))


def test_forgetting_frees_and_refuses(clip):
    live = LiveSource(16000)
    live.push(clip)
    live.forget(600)
    assert len(live._kept) == 400
    assert np.array_equal(live.read(600, 1000), ClipSource(clip, 16000).read(600, 1000))
    with pytest.raises(ValueError, match="oldest one kept is 600"):
        live.read(599, 700)
    live.forget(5000)
    assert live.received == 1000


def test_too_early_and_too_late(clip):
    live = LiveSource(16000)
    live.push(clip)
    with pytest.raises(ValueError, match="has not arrived yet"):
        live.read(900, 1001)
    with pytest.raises(ValueError, match="NaN"):
        live.push(torch.full((1, 3), float("nan")))
    live.close()
    with pytest.raises(ValueError, match="after the voice was closed"):
        live.push(clip)


def test_saved_state_goes_on_bit_identically(clip):
    live, other = LiveSource(16000), LiveSource(16000)
    live.push(clip[:, :500])
    live.forget(200)
    other.load_state_dict(live.state_dict())
    for source in (live, other):
        source.push(clip[:, 500:])
        source.close()
    assert np.array_equal(live.read(200, 1100), other.read(200, 1100))
    assert live.length == other.length == 1000


def test_a_backward_range_is_refused(clip):
    with pytest.raises(ValueError, match="end lies before the start"):
        ClipSource(clip, 16000).read(5, 4)
