"""Cutting a portrait and its masks as InfiniteTalk does; its own picture is compared in tests/golden."""

from __future__ import annotations

import pytest
import torch

from talkstream.media.covering import cover_masks, cover_picture, covering_size, middle


def test_the_right_size_stays_as_it_is():
    """Pictures in steps of 1/255, masks to the bit."""
    levels = torch.arange(32 * 48 * 3).view(1, 32, 48, 3) % 256
    assert torch.equal(cover_picture(levels / 255, height=32, width=48) * 255, levels.float())
    masks = torch.rand(2, 32, 48)
    assert torch.equal(cover_masks(masks, height=32, width=48), masks)


@pytest.mark.parametrize(
    ("source", "wanted", "size"),
    [
        ((41, 70), (32, 48), (32, 55)),
        ((70, 41), (32, 48), (82, 48)),
        ((30, 10), (3, 1), (3, 1)),
        ((1, 1), (32, 48), (48, 48)),
    ],
)
def test_sides_are_rounded_up_and_never_short(source, wanted, size):
    """Also where 0.1 x 30 would be 3.0000000000000004 in floating point."""
    assert covering_size(*source, height=wanted[0], width=wanted[1]) == size


def test_half_a_pixel_goes_to_the_even_side():
    """A surplus of 7 loses 4 at the left, one of 5 loses 2, as Python rounds."""
    for surplus, left in ((1, 0), (3, 2), (4, 2), (5, 2), (7, 4)):
        row = torch.arange(10.0 + surplus)[None]
        assert middle(row, height=1, width=10).tolist() == [list(range(left, left + 10))]


def test_picture_and_mask_keep_together():
    """A white square covers the same pixels in both, to half a level of grey."""
    picture = torch.zeros(1, 41, 70, 3)
    picture[:, 10:30, 20:50] = 1
    cut = cover_picture(picture, height=82, width=110)[0, :, :, 0]
    mask = cover_masks(picture[..., 0], height=82, width=110)[0]
    assert float(((cut > 0.5) != (mask > 0)).float().mean()) < 0.03
