"""Rotary positions: against complex multiplication, and without a length limit."""

from __future__ import annotations

import math

import pytest
import torch

from talkstream.networks.rope import Rotary, apply_rope, axis_pairs
from talkstream.tests.networks.cache_oracle import rotate


@pytest.mark.parametrize(("width", "pairs"), [(128, (22, 21, 21)), (64, (12, 10, 10)), (12, (2, 2, 2))])
def test_pairs_are_split_as_in_wan(width, pairs):
    assert axis_pairs(width) == pairs


def test_too_narrow_heads_are_named():
    with pytest.raises(ValueError, match="head width 4"):
        axis_pairs(4)


@pytest.mark.parametrize("start", [0, 7, -3, 1_000_000])
@pytest.mark.parametrize("width", [12, 128])
def test_rotation_is_complex_multiplication(start, width):
    """(1, L, D) of two heads on a 3 x 2 grid, two latents."""
    x = torch.randn(1, 12, 2 * width, dtype=torch.float64)
    rotated = apply_rope(x, Rotary((3, 2), width, dtype=torch.float64)([start, start + 1]))
    for i in range(2):
        latent = x[0].unflatten(0, (2, 6))[i].unflatten(-1, (2, width))
        expected = rotate(latent, start + i, (3, 2)).flatten(-2)
        torch.testing.assert_close(rotated[0].unflatten(0, (2, 6))[i], expected, rtol=0, atol=1e-9)


def test_scores_depend_on_distance_only_at_any_position():
    q, k = torch.randn(2, 1, 1, 128, dtype=torch.float64)
    rotary = Rotary((1, 1), 128, dtype=torch.float64)
    near = (apply_rope(q, rotary([5])) * apply_rope(k, rotary([1]))).sum()
    far = (apply_rope(q, rotary([2**40 + 5])) * apply_rope(k, rotary([2**40 + 1]))).sum()
    torch.testing.assert_close(near, far, rtol=0, atol=5e-3)
    hour = (apply_rope(q, rotary([100_005])) * apply_rope(k, rotary([100_001]))).sum()
    torch.testing.assert_close(near, hour, rtol=0, atol=1e-9)


def test_float32_rotation_keeps_float64_angles():
    """At latent 100,000 a float32 angle would be off by 4e-3; ours is right to float32 rounding of cos and sin."""
    rotary = Rotary((1, 1), 128)
    cos = rotary([100_000]).cos_L1K[0, 0, 0].item()
    assert abs(cos - math.cos(100_000)) < 1e-7


def test_bfloat16_stays_bfloat16_and_is_rounded_once():
    x = torch.randn(1, 4, 24, dtype=torch.bfloat16)
    rope = Rotary((2, 2), 12)([3])
    rotated = apply_rope(x, rope)
    assert rotated.dtype == torch.bfloat16
    assert torch.equal(rotated, apply_rope(x.float(), rope).to(torch.bfloat16))
