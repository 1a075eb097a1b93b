"""The drawn mask has the measures of the one that lip-sync students were trained with."""

from __future__ import annotations

import pytest
import torch

from talkstream.streaming.mouth_mask import MouthMask

# LatentSync's mask.png at 512 pixels and 64 latents, as Lip Forcing uses it: cells of the mouth, and their bounds.
PIXELS, PIXEL_BOUNDS = 106_692, (18, 495, 190, 485)
LATENTS, LATENT_BOUNDS = 1680, (2, 61, 24, 60)


def _bounds(mask_HW):
    rows, columns = (mask_HW > 0).any(1).nonzero()[:, 0], (mask_HW > 0).any(0).nonzero()[:, 0]
    return tuple(int(v) for v in (columns[0], columns[-1], rows[0], rows[-1]))


def test_drawn_mask_has_the_published_size_and_place():
    pixels, latents = MouthMask.drawn().pixels(512, 512), MouthMask.drawn().latents(64, 64)
    assert abs(int(pixels.sum()) - PIXELS) < 0.02 * PIXELS
    assert abs(int(latents.sum()) - LATENTS) < 0.02 * LATENTS
    for found, wanted in ((_bounds(pixels), PIXEL_BOUNDS), (_bounds(latents), LATENT_BOUNDS)):
        assert all(abs(a - b) <= 1 for a, b in zip(found, wanted, strict=True)), (found, wanted)


@pytest.mark.parametrize("side", [96, 500])
def test_any_size_has_the_same_share(side):
    mask = MouthMask.drawn()
    assert mask.pixels(side, side).float().mean() == pytest.approx(PIXELS / 512**2, abs=0.01)
    soft = mask.soft(side, side)
    assert soft.mean() == pytest.approx(PIXELS / 512**2, abs=0.01)
    assert 0 <= soft.min() and soft.max() <= 1
    assert soft[int(0.7 * side), side // 2] == 1 and soft[side // 10].max() == 0


def test_a_stored_mask_is_white_where_the_face_stays():
    keep = torch.ones(256, 256)
    keep[128:] = 0.0
    mask = MouthMask.of_picture(keep)
    assert torch.equal(mask.pixels(4, 4), torch.tensor([[False], [False], [True], [True]]).expand(4, 4))
    assert mask.latents(2, 2).tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_blanking_is_mid_grey_in_the_mouth_alone():
    frames = torch.rand(1, 3, 2, 32, 32) + 0.1
    mask = MouthMask.drawn()
    blanked = mask.blank(frames)
    mouth = mask.pixels(32, 32)
    assert blanked[..., mouth].abs().max() == 0
    assert torch.equal(blanked[..., ~mouth], frames[..., ~mouth])
