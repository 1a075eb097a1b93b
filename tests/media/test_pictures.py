"""Fitting a picture: what is cropped, what gets bars, and that nothing moves when the size is right."""

from __future__ import annotations

import pytest
import torch

from talkstream.media.pictures import fit_picture, placed


def gradient(height: int, width: int) -> torch.Tensor:
    """(1, H, W, 3): red grows to the right, green downwards, blue is a half."""
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None].expand(height, width)
    return torch.stack([columns, rows, torch.full((height, width), 0.5)], dim=-1)[None]


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
def test_right_size_is_left_as_it_is(fit):
    image = gradient(32, 48)
    assert torch.equal(fit_picture(image, width=48, height=32, fit=fit), image)


def test_cover_crops_the_same_from_both_sides():
    fitted = fit_picture(gradient(64, 192), width=64, height=64)
    expected = gradient(64, 192)[:, :, 64:128]
    assert torch.equal(fitted, expected)


def test_contain_keeps_all_between_black_bars():
    fitted = fit_picture(gradient(32, 64), width=64, height=64, fit="contain")
    assert torch.equal(fitted[:, 16:48], gradient(32, 64))
    assert float(fitted[:, :16].sum()) == 0.0
    assert float(fitted[:, 48:].sum()) == 0.0


def test_stretch_keeps_the_corners():
    fitted = fit_picture(gradient(40, 80), width=160, height=40, fit="stretch")
    assert fitted.shape == (1, 40, 160, 3)
    assert torch.allclose(fitted[0, 0, 0], torch.tensor([0.0, 0.0, 0.5]), atol=1e-6)
    assert torch.allclose(fitted[0, -1, -1], torch.tensor([1.0, 1.0, 0.5]), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(33, 47), (200, 31), (513, 512), (719, 1281)])
def test_odd_sizes_leave_no_black_line(height, width):
    """Truncating the resized side, as the reference does, leaves one at some heights."""
    fitted = fit_picture(torch.ones(1, height, width, 3), width=96, height=96)
    assert fitted.shape == (1, 96, 96, 3)
    assert float(fitted.min()) > 0.999


def test_placing_splits_an_odd_surplus():
    picture = torch.arange(5.0).view(1, 1, 1, 5)
    assert placed(picture, width=2, height=1).flatten().tolist() == [1.0, 2.0]
    assert placed(picture, width=8, height=1).flatten().tolist() == [0, 0, 0, 1, 2, 3, 4, 0]


def test_unknown_fit_lists_what_there_is():
    with pytest.raises(ValueError, match="'cover', 'contain' or 'stretch'"):
        fit_picture(gradient(8, 8), width=8, height=8, fit="zoom")
