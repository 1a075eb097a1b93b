"""Attention for training: the same numbers and gradients as the fused one, with and without a mask."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.ops import sdpa_attention
from talkstream.training.attention import trained_attention


@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_fused_attention(masked):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(2, length, 12, generator=generator, dtype=torch.float64) for length in (7, 9, 9)]
    seen = torch.randn(2, 7, 12, generator=generator, dtype=torch.float64)
    mask = (torch.arange(9)[None] <= torch.arange(7)[:, None]) if masked else None
    results = []
    for attention in (sdpa_attention, trained_attention):
        given = [row.clone().requires_grad_() for row in rows]
        out = attention(*given, 3, mask)
        (out * seen).sum().backward()
        results.append([out.detach(), *(row.grad for row in given)])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(plain, fused, atol=1e-12, rtol=0)
