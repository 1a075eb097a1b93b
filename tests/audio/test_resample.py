"""Stretches resampled on their own against the whole clip, and what they may depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkstream.audio.resample import ResampledReader, resample
from talkstream.audio.sources import ClipSource, LiveSource

RATES = (4000, 8000, 11025, 22050, 24000, 44099, 44100, 48000, 96000)


def noise(rate: int, seconds: float) -> torch.Tensor:
    return torch.randn(1, int(rate * seconds), generator=torch.Generator().manual_seed(rate)) * 0.3


@pytest.mark.parametrize("rate", RATES)
def test_stretches_equal_the_whole_clip(rate):
    """White noise; inside a stretch the difference is rounding, at its right edge 1e-5."""
    clip = noise(rate, 4.0)
    whole = resample(clip[0].numpy(), from_rate=rate, to_rate=16000)
    reader = ResampledReader(ClipSource(clip, rate), rate=16000)
    assert reader.length == len(whole)
    for start, stop in ((0, 5000), (12345, 30001), (47000, 64000)):
        error = np.abs(reader.read(start, stop) - whole[start:stop])
        assert error[80:].max() < 2e-5  # the resampler's own start of a clip is not silence before it
        assert error[200:-200].max() < 2e-6


@pytest.mark.parametrize("rate", RATES)
def test_later_samples_change_nothing(rate):
    clip = noise(rate, 4.0)
    other = clip.clone()
    reader = ResampledReader(ClipSource(clip, rate), rate=16000)
    start, stop = reader.native_range(16000, 24000)
    other[:, stop:] = 5.0
    other[:, : max(0, start)] = -5.0
    changed = ResampledReader(ClipSource(other, rate), rate=16000)
    cut = ResampledReader(ClipSource(clip[:, :stop], rate), rate=16000)
    assert np.array_equal(reader.read(16000, 24000), changed.read(16000, 24000))
    assert np.array_equal(reader.read(16000, 24000), cut.read(16000, 24000))


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_live_voice_resamples_like_a_clip(rate):
    clip = noise(rate, 2.0)
    live = LiveSource(rate)
    reader, whole = ResampledReader(live, rate=16000), ResampledReader(ClipSource(clip, rate), rate=16000)
    assert reader.length is None
    _, stop = reader.native_range(8000, 16000)
    live.push(clip[:, :stop])
    assert np.array_equal(reader.read(8000, 16000), whole.read(8000, 16000))
    live.push(clip[:, stop:])
    live.close()
    assert np.array_equal(reader.read(30000, 33000), whole.read(30000, 33000))


def test_a_sine_keeps_its_frequency_and_level():
    seconds = np.arange(44100) / 44100
    out = resample(np.sin(2 * np.pi * 440 * seconds).astype(np.float32), from_rate=44100, to_rate=16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert len(out) == 16000
    assert np.abs(out - expected)[500:-500].max() < 1e-4


def test_the_same_rate_passes_through():
    clip = noise(16000, 0.5)
    reader = ResampledReader(ClipSource(clip, 16000), rate=16000)
    assert np.array_equal(reader.read(100, 4000), clip[0, 100:4000].numpy())
