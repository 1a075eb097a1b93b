"""Every waveform that cannot be used is refused in one sentence; silence only warns."""

from __future__ import annotations

import logging

import pytest
import torch

from talkstream.audio import levels
from talkstream.audio.levels import check_waveform, decibels, peak_level


def test_the_clip_comes_back_as_a_view():
    waveform = torch.rand(1, 2, 1000)
    clip = check_waveform(waveform, 44100)
    assert clip.data_ptr() == waveform.data_ptr()
    assert torch.equal(clip, waveform[0])
    assert torch.equal(check_waveform(waveform[0], 44100), waveform[0])
    assert torch.equal(check_waveform(waveform[0, 0], 44100), waveform[0, :1])
    assert check_waveform(waveform.double(), 44100).dtype == torch.float32


@pytest.mark.parametrize(
    ("waveform", "rate", "sentence"),
    [
        (None, 44100, "no audio"),
        (torch.zeros(1, 1, 0), 44100, "no samples"),
        (torch.zeros(1, 0, 5), 44100, "no samples"),
        (torch.rand(3, 1, 10), 44100, "batch of 3 waveforms, expected one"),
        (torch.rand(1, 1, 1, 10), 44100, r"expected \(1, channels, samples\)"),
        (torch.rand(1, 1, 10), 0, "sample rate is 0"),
    ],
)
def test_unusable_audio_is_named(waveform, rate, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_waveform(waveform, rate)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_sample_is_located(monkeypatch, bad):
    monkeypatch.setattr(levels, "BLOCK_SAMPLES", 1000)
    clip = torch.zeros(2, 5000)
    clip[1, 3200] = clip[0, 4000] = bad
    with pytest.raises(ValueError, match="first at 0.200 s"):
        peak_level(clip, 16000)


def test_silence_warns_once_and_quiet_speech_does_not(caplog):
    with caplog.at_level(logging.WARNING):
        check_waveform(torch.zeros(1, 1, 100), 16000)
        assert len(caplog.records) == 1
        assert "silent" in caplog.text
        check_waveform(torch.full((1, 1, 100), 0.001), 16000)
        assert len(caplog.records) == 1


def test_decibels():
    assert decibels(1.0) == 0.0
    assert decibels(0.1) == pytest.approx(-20.0)
    assert decibels(0.0) == -200.0
