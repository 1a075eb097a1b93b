"""Cache settings to test, and a driver that feeds a cache and the oracle the same random numbers."""

from __future__ import annotations

import torch

from talkstream.networks.kv_cache import CLEAN_PASS, CacheSpec
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

    def __init__(self, cache, seed=0, dtype=torch.float64, oracle=True, layers=None):
        self.cache, self.spec, self.dtype = cache, cache.spec, dtype
        self.generator = torch.Generator().manual_seed(seed)
        self.oracle = Oracle(cache.spec, GRID, HEADS, next_latent=cache.next_latent) if oracle else None
        self.layers = layers or LAYERS
        self.outputs, self.worst = [], 0.0

    def random(self, latents):
        shape = (1, latents * GRID[0] * GRID[1], DIM)
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def run_pass(self, step, latents):
        self.cache.begin_pass(step)
        for layer in range(self.layers):
            q, k, v = (self.random(latents) for _ in range(3))
            keys, values = self.cache.extend(layer, k, v)
            out = sdpa_attention(apply_rope(q, self.cache.rope), keys, values, HEADS)
            self.outputs.append(out.clone())
            if self.oracle is not None:
                truth = self.oracle.attend(layer, max(step, 0), q, k, v)
                self.worst = max(self.worst, (out[0].double() - truth).abs().max().item())

    def run_sink(self, latents):
        self.cache.begin_sink(latents)
        for layer in range(self.layers):
            k, v = self.random(latents), self.random(latents)
            self.cache.extend(layer, k, v)
            if self.oracle is not None:
                self.oracle.write_sink(layer, k, v)
        self.cache.end_sink()

    def prepare_sink(self, index):
        """Write the sink where it is not made of first latents: before chunk 0, and anew before chunk 1."""
        source = self.spec.sink_source
        if not self.spec.sink or source == "first_latents":
            return
        if index == 0:
            self.run_sink(1 if source == "reference_then_first_generated" else self.spec.sink)
        elif index == 1 and source == "reference_then_first_generated":
            self.run_sink(self.spec.sink)

    def run_chunk(self, index, latents=None, sink_is_ready=False):
        latents = latents or self.spec.chunk
        if not sink_is_ready:
            self.prepare_sink(index)
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
