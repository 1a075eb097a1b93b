"""Numbers in eight bits: their error. Caches that keep them so are tested with StagedKVCache."""

from __future__ import annotations

import torch

from talkstream.networks.eight_bit import EightBitSlots


def test_error_of_each_number():
    """At most half a step of its token's and head's own scale; a head of zeros stays exact."""
    slots = EightBitSlots(1, 6, 12, 3)
    x = torch.randn(1, 4, 12) * torch.logspace(-3, 3, 3).repeat_interleave(4)
    x[:, 2, :4] = 0
    slots.write(1, x)
    out = torch.empty(1, 5, 12)
    slots.read_into(out)
    assert torch.equal(out[:, 0], torch.zeros(1, 12)) and torch.equal(out[:, 3, :4], torch.zeros(1, 4))
    step = x.unflatten(-1, (3, 4)).abs().amax(-1, keepdim=True) / 127
    error = (out[:, 1:] - x).unflatten(-1, (3, 4)).abs()
    assert bool((error <= 0.5001 * step).all()) and float(error.max()) > 0
