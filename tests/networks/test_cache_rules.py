"""RingKVCache and GrowingKVCache against the naive oracle: keep everything, list the visible, rotate at read."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.kv_cache import GrowingKVCache, RingKVCache
from talkstream.tests.networks.cache_runner import DIM, LAYERS, LIPFORCING, LIVETALK, PROFILES, Runner, make


@pytest.mark.parametrize("cls", [RingKVCache, GrowingKVCache])
@pytest.mark.parametrize("name", PROFILES)
def test_every_attention_equals_the_oracle(name, cls):
    runner = Runner(make(cls, PROFILES[name])).run(9)
    assert runner.worst < 1e-10


@pytest.mark.parametrize("name", PROFILES)
def test_a_shorter_first_chunk_equals_the_oracle(name):
    runner = Runner(make(RingKVCache, PROFILES[name]))
    runner.run_chunk(0, latents=1)
    assert runner.run(8, first=1).worst < 1e-10


@pytest.mark.parametrize("cls", [RingKVCache, GrowingKVCache])
@pytest.mark.parametrize("name", PROFILES)
def test_streams_that_start_at_latent_100_000_equal_the_oracle(name, cls):
    cache = make(cls, PROFILES[name])
    cache.reset(next_latent=100_000)
    assert Runner(cache).run(8).worst < 1e-10


@pytest.mark.parametrize("name", PROFILES)
def test_a_sink_from_the_start_is_seen_right_from_latent_100_000(name):
    """Jump by way of a saved state, let the old history be evicted, then compare."""
    spec = PROFILES[name]
    if name == "full_cache":
        pytest.skip("keeps its history, so nothing is evicted")
    runner = Runner(make(RingKVCache, spec)).run(9)
    state = runner.cache.state_dict()
    runner.cache.load_state_dict({**state, "next_latent": 100_000})
    runner.oracle.next_latent = 100_000
    runner.run(8, first=9)
    runner.worst = 0.0
    assert runner.run(3, first=17).worst < 1e-10


@pytest.mark.parametrize("start", [0, 100_000])
@pytest.mark.parametrize("name", PROFILES)
def test_bfloat16_differs_by_rounding_only(name, start):
    """Keys and values of size 1 in bfloat16: rotated keys, scores and sums are rounded to 2^-9 of their size."""
    cache = make(RingKVCache, PROFILES[name], dtype=torch.bfloat16)
    cache.reset(next_latent=start)
    assert Runner(cache, dtype=torch.bfloat16).run(8).worst < 0.015


@pytest.mark.parametrize("name", PROFILES)
def test_growing_cache_equals_ring_cache(name):
    ring = Runner(make(RingKVCache, PROFILES[name]), oracle=False).run(9)
    growing = Runner(make(GrowingKVCache, PROFILES[name]), oracle=False).run(9)
    for a, b in zip(ring.outputs, growing.outputs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_livetalk_sees_the_latents_that_its_paper_lists():
    """Values name their latent, so the visible set can be read from the returned values."""
    cache = make(RingKVCache, LIVETALK)
    seen = [see_latents(cache) for _ in range(8)]
    assert seen[4] == list(range(15))
    assert seen[5] == [*range(9), 12, 13, 14, 15, 16, 17]
    assert seen[7] == [*range(9), 18, 19, 20, 21, 22, 23]


def test_lip_forcing_sees_the_latents_that_its_paper_lists():
    cache = make(RingKVCache, LIPFORCING)
    assert [see_latents(cache) for _ in range(4)] == [
        [0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 3, 4, 5, 6, 7, 8], [0, 6, 7, 8, 9, 10, 11],
    ]  # fmt: skip


def see_latents(cache):
    """Run one chunk whose values are the latent's number; returns the numbers visible, sorted."""
    cache.begin_chunk(cache.spec.chunk)
    numbers = torch.tensor([float(p) for p in cache.positions()], dtype=torch.float64)
    v = numbers.repeat_interleave(2)[None, :, None].expand(1, -1, DIM)
    for layer in range(LAYERS):
        _, values = cache.extend(layer, torch.zeros_like(v), v)
    cache.end_chunk()
    return sorted({int(x) for x in values[0, :, 0]})


def test_before_window_is_the_same_as_window_local_positions():
    """Rotated keys differ from window-local ones by a common turn: scores are equal, chunk by chunk."""
    runner = Runner(make(RingKVCache, LIPFORCING)).run(6)
    listed = runner.oracle.visible(0, [18, 19, 20])
    assert [position for _, _, position in listed] == [0, 1, 2, 3, 4, 5, 6]
    assert runner.worst < 1e-10
