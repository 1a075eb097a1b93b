"""Bookkeeping of a KV cache in host integers: which latents a chunk writes, sees, and at which positions."""

from __future__ import annotations

from dataclasses import dataclass

from .cache_spec import CacheSpec

CLEAN_PASS = -1
"""Step number of the pass that writes the finished latents' keys and values (mode ``clean``)."""
Span = tuple[int, int, int]
"""One contiguous copy: (first one at the source, first one at the target, how many)."""


@dataclass(frozen=True)
class CacheChunk:
    """One chunk of a stream as its cache sees it; all numbers are latent frames.

    sink_before, ring_before: latents in the sink and ever put behind it, before this chunk.
    sink_new, ring_new: how many of this chunk's latents, in this order, go to either.
    """

    first_latent: int
    latents: int
    sink_before: int
    sink_new: int
    ring_before: int
    ring_new: int

    @property
    def positions(self) -> range:
        """Temporal positions of the chunk's latents."""
        return range(self.first_latent, self.first_latent + self.latents)

    def history(self, longest: int) -> int:
        """Latents behind the sink that a layer with this much history sees besides the chunk."""
        return min(self.ring_before, longest)

    def sink_positions(self, spec: CacheSpec) -> range:
        """Temporal positions of the sink latents written before this chunk, under a rule that moves them."""
        if spec.sink_rule == "ahead":
            first = self.first_latent + spec.sink_offset
        else:
            first = self.first_latent - self.history(spec.longest_history) - self.sink_before
        return range(first, first + self.sink_before)

    def ring_spans(self, capacity: int) -> list[Span]:
        """Where the chunk's latents go in a ring of this many: from latents of the chunk to slots of the ring."""
        count = min(self.ring_new, capacity)
        source, number = self.latents - count, self.ring_before + self.ring_new - count
        spans = []
        while count:
            slot = number % capacity
            run = min(count, capacity - slot)
            spans.append((source, slot, run))
            source, number, count = source + run, number + run, count - run
        return spans


@dataclass
class Timeline:
    """Counters of a stream: the latent to come, latents in the sink, latents ever put behind it."""

    spec: CacheSpec
    next_latent: int = 0
    sink_filled: int = 0
    ring_count: int = 0
    sink_pass: int = 0
    chunk: CacheChunk | None = None

    def begin_chunk(self, latents: int) -> CacheChunk:
        """Plan the next chunk. Raises ValueError for a length the cache cannot hold, RuntimeError out of order."""
        self.check_between_chunks("begin_chunk")
        spec = self.spec
        shorter_is_fine = self.ring_count == 0 and 1 <= latents <= spec.chunk
        if latents != spec.chunk and not shorter_is_fine:
            raise ValueError(
                f"got a chunk of {latents} latents; this cache takes {spec.chunk}, only the first may be shorter."
            )
        free = spec.sink - self.sink_filled if spec.sink_source == "first_latents" else 0
        sink_new = min(free, latents)
        self.chunk = CacheChunk(
            first_latent=self.next_latent,
            latents=latents,
            sink_before=self.sink_filled,
            sink_new=sink_new,
            ring_before=self.ring_count,
            ring_new=latents - sink_new,
        )
        return self.chunk

    def end_chunk(self) -> CacheChunk:
        """Count the chunk as past."""
        chunk = self.open_chunk()
        self.next_latent += chunk.latents
        self.sink_filled += chunk.sink_new
        self.ring_count += chunk.ring_new
        self.chunk = None
        return chunk

    def begin_sink(self, latents: int) -> None:
        """Start a sink pass. Raises ValueError where the sink is not written this way or is too small."""
        self.check_between_chunks("begin_sink")
        if self.spec.sink_source == "first_latents":
            raise ValueError(
                "this cache takes its sink from the stream's first latents; no sink pass is needed."
            )
        if not 1 <= latents <= self.spec.sink:
            raise ValueError(f"got a sink of {latents} latents; this cache holds 1 to {self.spec.sink}.")
        self.sink_pass = latents

    def end_sink(self) -> None:
        """Count the sink pass's latents as the sink."""
        if not self.sink_pass:
            raise RuntimeError("end_sink without begin_sink.")
        self.sink_filled, self.sink_pass = self.sink_pass, 0

    def open_chunk(self) -> CacheChunk:
        """The running chunk. Raises RuntimeError where there is none."""
        if self.chunk is None:
            raise RuntimeError("no chunk is open; call begin_chunk first.")
        return self.chunk

    def positions(self) -> range:
        """Temporal positions of the running pass's latents, sink passes counting from 0."""
        return range(self.sink_pass) if self.sink_pass else self.open_chunk().positions

    def check_step(self, step: int, done: set[int]) -> None:
        """Raises ValueError for a step that the spec does not have, RuntimeError for one run twice."""
        self.open_chunk()
        if self.spec.mode == "clean":
            return
        if not 0 <= step < self.spec.steps:
            raise ValueError(f"got step {step}; a per_step cache has steps 0..{self.spec.steps - 1}.")
        if step in done:
            raise RuntimeError(
                f"step {step} ran already in this chunk; a per_step cache takes each step once."
            )

    def check_between_chunks(self, what: str) -> None:
        """Raises RuntimeError while a chunk or a sink pass is open."""
        if self.chunk is not None or self.sink_pass:
            raise RuntimeError(f"{what} while a chunk or sink pass is open; end that first.")

    def counters(self) -> dict[str, int]:
        """The counters, to be stored between chunks."""
        self.check_between_chunks("state_dict")
        return {name: getattr(self, name) for name in ("next_latent", "sink_filled", "ring_count")}
