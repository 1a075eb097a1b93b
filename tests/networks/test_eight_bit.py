"""Keys and values in eight bits: error, size, state, and where they are refused."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.eight_bit import EightBitSlots, token_bytes
from talkstream.networks.kv_cache import RingKVCache
from talkstream.tests.networks.cache_runner import (
    DIM,
    ECHOTORRENT,
    GRID,
    HEADS,
    LAYERS,
    LIVETALK,
    Runner,
    make,
)


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


def test_a_stream_with_it_is_close_saved_and_of_the_computed_size():
    """Attention within 0.05 of the oracle's over evictions; state loads bit for bit; bytes are the formula's."""
    cache = make(RingKVCache, ECHOTORRENT, eight_bit=True)
    runner = Runner(cache)
    runner.run(5)
    assert 1e-6 < runner.worst < 0.05
    sizes = {"layers": LAYERS, "dim": DIM, "tokens": GRID[0] * GRID[1], "itemsize": 8}
    assert cache.size_bytes == ECHOTORRENT.bytes(**sizes, ring_token_bytes=token_bytes(DIM, HEADS))
    other = make(RingKVCache, ECHOTORRENT, eight_bit=True)
    other.load_state_dict(cache.state_dict())
    ends = []
    for each in (cache, other):
        again = Runner(each, seed=9, oracle=False)
        again.run_chunk(5)
        ends.append(torch.cat(again.outputs, dim=1))
    assert torch.equal(*ends)


def test_a_clean_cache_is_refused():
    with pytest.raises(ValueError, match="eight-bit keys and values need a per_step cache"):
        make(RingKVCache, LIVETALK, eight_bit=True)
