"""Rounding of pictures, with numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from talkstream.media.frames import channels_last, from_bytes, to_bytes


def test_levels_of_minus_one_to_one():
    values = torch.tensor([-2.0, -1.0, -0.998, -0.9961, 0.0, 0.5, 1.0, 1.5])
    assert to_bytes(values).tolist() == [0, 0, 0, 0, 128, 191, 255, 255]


def test_levels_of_zero_to_one():
    values = torch.tensor([0.0, 0.0019, 0.0021, 0.5, 1.0])
    assert to_bytes(values, low=0.0).tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_round_trip_is_exact(low):
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_bytes(from_bytes(levels, low=low), low=low), levels)


def test_the_input_is_left_alone_and_any_dtype_is_taken():
    values = torch.linspace(-1, 1, 7, dtype=torch.bfloat16)
    kept = values.clone()
    assert torch.equal(to_bytes(values), to_bytes(values.float()))
    assert torch.equal(values, kept)


def test_nan_stops():
    with pytest.raises(ValueError, match="NaN"):
        to_bytes(torch.tensor([0.0, float("nan")]))


def test_channels_last():
    video = torch.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5)
    assert torch.equal(channels_last(video), torch.stack([video[:, f].permute(1, 2, 0) for f in range(2)]))
    assert torch.equal(channels_last(video[None]), channels_last(video))
    with pytest.raises(ValueError, match="batch of 2"):
        channels_last(torch.zeros(2, 3, 1, 4, 4))
