"""RingKVCache and GrowingKVCache against the naive oracle: keep everything, list the visible, rotate at read."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.kv_cache import CLEAN_PASS, CacheSpec, GrowingKVCache, RingKVCache
from talkstream.networks.ops import sdpa_attention
from talkstream.networks.rope import apply_rope
from talkstream.tests.networks.cache_oracle import Oracle

LIVETALK = CacheSpec(chunk=3, sink=9, history=(3,), steps=4)
LIPFORCING = CacheSpec(chunk=3, sink=1, history=(3,), sink_rule="before_window", steps=2)
ECHOTORRENT = CacheSpec(
    chunk=4, sink=1, history=(12, 0), sink_rule="before_window", steps=4, mode="per_step",
    sink_source="reference_then_first_generated",
)  # fmt: skip
LIVEAVATAR = CacheSpec(
    chunk=3, sink=2, history=(12,), sink_rule="ahead", sink_offset=16, sink_source="reference", steps=4,
    mode="per_step",
)  # fmt: skip
PROFILES = {
    "livetalk": LIVETALK,
    "lipforcing": LIPFORCING,
    "echotorrent": ECHOTORRENT,
    "echotorrent_sink4": CacheSpec(**{**vars(ECHOTORRENT), "sink": 4}),
    "liveavatar": LIVEAVATAR,
    "full_cache": CacheSpec(chunk=3, sink=0, history=(60,)),
    "no_sink": CacheSpec(chunk=3, sink=0, history=(12,)),
    "no_history": CacheSpec(chunk=2, sink=3, history=(0,), sink_rule="before_window"),
    "odd_wraps": CacheSpec(chunk=3, sink=4, history=(5, 2, 0), sink_rule="before_window"),
    "clean_own_sink": CacheSpec(
        chunk=2, sink=3, history=(4, 1), sink_rule="before_window", sink_source="reference_then_first_generated"
    ),
    "per_step_first_latents": CacheSpec(
        chunk=3, sink=4, history=(5, 0), sink_rule="before_window", mode="per_step", steps=2
    ),
    "per_step_absolute": CacheSpec(chunk=3, sink=4, history=(2,), mode="per_step", steps=2),
    "per_step_ahead": CacheSpec(
        chunk=3, sink=2, history=(4,), sink_rule="ahead", sink_offset=5, mode="per_step", steps=2
    ),
    "reference_absolute": CacheSpec(chunk=3, sink=2, history=(4,), sink_source="reference"),
}  # fmt: skip
GRID, HEADS, WIDTH, LAYERS = (1, 2), 2, 12, 2
DIM = HEADS * WIDTH


def make(cls, spec, dtype=torch.float64, **sizes):
    sizes = {"layers": LAYERS, "dim": DIM, "heads": HEADS, "grid": GRID, "dtype": dtype} | sizes
    return cls(spec, **sizes)


class Runner:
    """Drives a cache and the oracle with the same random queries, keys and values."""

    def __init__(self, cache, seed=0, dtype=torch.float64, oracle=True):
        self.cache, self.spec, self.dtype = cache, cache.spec, dtype
        self.generator = torch.Generator().manual_seed(seed)
        self.oracle = Oracle(cache.spec, GRID, HEADS, next_latent=cache.next_latent) if oracle else None
        self.outputs, self.worst = [], 0.0

    def random(self, latents):
        shape = (1, latents * GRID[0] * GRID[1], DIM)
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def run_pass(self, step, latents):
        self.cache.begin_pass(step)
        for layer in range(LAYERS):
            q, k, v = (self.random(latents) for _ in range(3))
            keys, values = self.cache.extend(layer, k, v)
            out = sdpa_attention(apply_rope(q, self.cache.rope), keys, values, HEADS)
            self.outputs.append(out.clone())
            if self.oracle is not None:
                truth = self.oracle.attend(layer, max(step, 0), q, k, v)
                self.worst = max(self.worst, (out[0].double() - truth).abs().max().item())

    def run_sink(self, latents):
        self.cache.begin_sink(latents)
        for layer in range(LAYERS):
            k, v = self.random(latents), self.random(latents)
            self.cache.extend(layer, k, v)
            if self.oracle is not None:
                self.oracle.write_sink(layer, k, v)
        self.cache.end_sink()

    def run_chunk(self, index, latents=None):
        latents = latents or self.spec.chunk
        source = self.spec.sink_source
        if self.spec.sink and source != "first_latents" and index == 0:
            self.run_sink(1 if source == "reference_then_first_generated" else self.spec.sink)
        elif self.spec.sink and source == "reference_then_first_generated" and index == 1:
            self.run_sink(self.spec.sink)
        self.cache.begin_chunk(latents)
        if self.oracle is not None:
            self.oracle.begin_chunk(latents)
        clean = [CLEAN_PASS] if self.spec.mode == "clean" else []
        for step in [*range(self.spec.steps), *clean]:
            self.run_pass(step, latents)
        self.cache.end_chunk()
        if self.oracle is not None:
            self.oracle.end_chunk()

    def run(self, chunks, first=0):
        for index in range(first, first + chunks):
            self.run_chunk(index)
        return self


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
    """Keys and values of size 1 in bfloat16: rotated keys are rounded once, to 2^-9 of their size."""
    cache = make(RingKVCache, PROFILES[name], dtype=torch.bfloat16)
    cache.reset(next_latent=start)
    assert Runner(cache, dtype=torch.bfloat16).run(8).worst < 0.03


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
