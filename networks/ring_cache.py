"""The KV cache of a running stream: allocated once, written in place, with host integers for bookkeeping.

Slots hold sink latents first, then a ring, so the keys a layer sees are always one contiguous slice. Local keys are
stored rotated at their absolute position. Sink keys that move are stored unrotated as well, and rotated once per
chunk to where the sink rule wants them. After the study of LiveTalk's, Lip Forcing's and LiveAvatar's caches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .cache_plan import CacheChunk, Span, Timeline
from .cache_spec import CacheSpec
from .cache_state import restored, saved
from .ops import rope_dtype
from .rope import Rope, Rotary, apply_rope


@dataclass
class _Layer:
    """Buffers of one layer; all (B, tokens, D).

    clean: k, v hold [sink | ring]. per_step: k, v hold one ring per step, sink_k and sink_v the sinks.
    sink_raw: unrotated sink keys where the sink moves; sink_roped: their rotated copy in per_step mode.
    """

    k: list[Tensor]
    v: list[Tensor]
    sink_k: list[Tensor] = field(default_factory=list)
    sink_v: list[Tensor] = field(default_factory=list)
    sink_roped: Tensor | None = None


class RingKVCache:
    """KVCache for inference; see the KVCache protocol for the order of calls."""

    def __init__(
        self,
        spec: CacheSpec,
        *,
        layers: int,
        dim: int,
        heads: int,
        grid: tuple[int, int],
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """grid: token rows and columns of one latent; dtype: how keys and values are stored."""
        self.spec = spec
        self._tokens = grid[0] * grid[1]
        self._rotary = Rotary(grid, dim // heads, dtype=rope_dtype(dtype), device=device)
        self._timeline = Timeline(spec)
        self._rope: Rope | None = None
        self._sink_rope: Rope | None = None
        self._step = 0
        self._done: set[int] = set()
        self._spans: dict[int, list[Span]] = {}

        def zeros(latents: int) -> Tensor:
            return torch.zeros(batch, latents * self._tokens, dim, dtype=dtype, device=device)

        self._workspace = [zeros(spec.window), zeros(spec.window)] if spec.mode == "per_step" else []
        self._layers = [_allocate(spec, spec.history_of(i), zeros) for i in range(layers)]

    @property
    def next_latent(self) -> int:
        """Number of the first latent to come."""
        return self._timeline.next_latent

    @property
    def rope(self) -> Rope:
        """Rotation of the running pass's tokens, made once per chunk."""
        if self._rope is None:
            raise RuntimeError("no pass is running; call begin_chunk or begin_sink first.")
        return self._rope

    @property
    def size_bytes(self) -> int:
        """Bytes of all buffers; equal to ``CacheSpec.bytes``."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def positions(self) -> range:
        """Temporal positions of the running pass's latents."""
        return self._timeline.positions()

    def reset(self, *, next_latent: int = 0) -> None:
        """Forget everything; the stream starts at this latent number. Keeps the buffers."""
        self._timeline = Timeline(self.spec, next_latent=next_latent)
        self._rope = None

    def begin_chunk(self, latents: int) -> None:
        """Choose the chunk's slots and move the sink to its position."""
        chunk = self._timeline.begin_chunk(latents)
        self._rope = self._rotary(chunk.positions)
        self._step = 0
        self._done = set()
        self._spans = {h: self._write_spans(chunk, h) for h in set(self.spec.history)}
        if self.spec.sink_moves and chunk.sink_before:
            self._sink_rope = self._rotary(chunk.sink_positions(self.spec))
            if self.spec.sink_copies == 1:
                for layer in self._layers:
                    self._move_sink(layer, 0)

    def begin_pass(self, step: int) -> None:
        """Start a denoising step or CLEAN_PASS; per_step caches take each step once per chunk."""
        self._timeline.check_step(step, self._done)
        self._step = step
        self._done.add(step)

    def end_chunk(self) -> None:
        """Make the chunk part of the past."""
        self._timeline.end_chunk()
        self._rope = None

    def begin_sink(self, latents: int) -> None:
        """Start the pass that writes the sink; its latents see only each other, at positions 0, 1, ..."""
        self._timeline.begin_sink(latents)
        self._rope = self._rotary(range(latents))

    def end_sink(self) -> None:
        """Put the new sink in place of the old one."""
        self._timeline.end_sink()
        self._rope = None

    def extend(self, layer: int, k_BLD: Tensor, v_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's unrotated keys and values; returns views of all that the layer sees, keys rotated."""
        if k_BLD.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                "RingKVCache writes in place and carries no gradient; train with GrowingKVCache."
            )
        if k_BLD.shape[1] != len(self.positions()) * self._tokens:
            raise ValueError(
                f"got {k_BLD.shape[1]} tokens for {len(self.positions())} latents of {self._tokens} tokens."
            )
        roped = apply_rope(k_BLD, self.rope)
        if self._timeline.sink_pass:
            return self._store_sink(self._layers[layer], k_BLD, roped, v_BLD)
        store = self._extend_clean if self.spec.mode == "clean" else self._extend_per_step
        return store(self._layers[layer], self.spec.history_of(layer), k_BLD, roped, v_BLD)

    def _extend_clean(
        self, layer: _Layer, history: int, raw: Tensor, roped: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Write the chunk over its own slots and return the slice that is filled."""
        chunk, k_slots, v_slots = self._timeline.open_chunk(), layer.k[0], layer.v[0]
        for source, slot, count in self._spans[history]:
            k_slots[:, slot : slot + count] = roped[:, source : source + count]
            v_slots[:, slot : slot + count] = v[:, source : source + count]
        if chunk.sink_new and self.spec.sink_moves:
            self._fill_sink(layer.sink_k[0], raw, chunk)
        start = self._sink_slot(chunk.sink_before)
        ring = min(chunk.ring_before + chunk.ring_new, history + self.spec.chunk)
        filled = self.spec.sink + ring if ring else chunk.sink_before + chunk.sink_new
        start, end = start * self._tokens, filled * self._tokens
        return k_slots[:, start:end], v_slots[:, start:end]

    def _extend_per_step(
        self, layer: _Layer, history: int, raw: Tensor, roped: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Assemble [sink | ring | live] in the workspace, then put the live latents into the step's ring."""
        chunk, tokens = self._timeline.open_chunk(), self._tokens
        copy = self._step if self.spec.sink_copies > 1 else 0
        if self.spec.sink_moves and self.spec.sink_copies > 1 and chunk.sink_before:
            self._move_sink(layer, copy)
        k_out, v_out = self._workspace
        sink, past = chunk.sink_before * tokens, chunk.history(history) * tokens
        if sink:
            start = self._sink_slot(chunk.sink_before) * tokens
            keys = layer.sink_roped if layer.sink_roped is not None else layer.sink_k[copy]
            k_out[:, :sink] = keys[:, start : start + sink]
            v_out[:, :sink] = layer.sink_v[copy][:, start : start + sink]
        end = sink + past + roped.shape[1]
        for out, ring, live in ((k_out, layer.k, roped), (v_out, layer.v, v)):
            slots = ring[self._step]
            out[:, sink : sink + past] = slots[:, :past]
            out[:, sink + past : end] = live
            for source, slot, count in self._spans[history]:
                slots[:, slot : slot + count] = live[:, source : source + count]
        if chunk.sink_new:
            self._fill_sink(layer.sink_k[copy], raw if self.spec.sink_moves else roped, chunk)
            self._fill_sink(layer.sink_v[copy], v, chunk)
        return k_out[:, :end], v_out[:, :end]

    def _store_sink(self, layer: _Layer, raw: Tensor, roped: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write a sink pass's keys and values; its tokens see each other only."""
        start = self._sink_slot(self._timeline.sink_pass) * self._tokens
        end = start + raw.shape[1]
        if self.spec.sink_moves:
            layer.sink_k[0][:, start:end] = raw
        elif self.spec.mode == "clean":
            layer.k[0][:, start:end] = roped
        else:
            layer.sink_k[0][:, start:end] = roped
        values = layer.v[0] if self.spec.mode == "clean" else layer.sink_v[0]
        values[:, start:end] = v
        return roped, v

    def _move_sink(self, layer: _Layer, copy: int) -> None:
        """Rotate the sink keys to this chunk's sink position."""
        count = self._timeline.open_chunk().sink_before
        start = self._sink_slot(count) * self._tokens
        end = start + count * self._tokens
        target = layer.sink_roped if layer.sink_roped is not None else layer.k[0]
        target[:, start:end] = apply_rope(layer.sink_k[copy][:, start:end], self._sink_rope)

    def _fill_sink(self, target: Tensor, live: Tensor, chunk: CacheChunk) -> None:
        """Copy the latents of the chunk that belong to the sink."""
        start, count = chunk.sink_before * self._tokens, chunk.sink_new * self._tokens
        target[:, start : start + count] = live[:, :count]

    def _sink_slot(self, filled: int) -> int:
        """First slot of a sink of this many latents: sinks of their own lie against the ring."""
        return 0 if self.spec.sink_source == "first_latents" else self.spec.sink - filled

    def _write_spans(self, chunk: CacheChunk, history: int) -> list[Span]:
        """Where the chunk's latents go in the slots of a layer with this much history, in tokens."""
        if self.spec.mode == "clean":
            base, capacity = self.spec.sink, history + self.spec.chunk
            spans = [(0, chunk.sink_before, chunk.sink_new)] if chunk.sink_new else []
        else:
            base, capacity, spans = 0, history, []
        spans += [(source, base + slot, count) for source, slot, count in chunk.ring_spans(capacity)]
        return [(a * self._tokens, b * self._tokens, n * self._tokens) for a, b, n in spans]

    def state_dict(self) -> dict[str, Any]:
        """All buffers, copied to the CPU, and counters, between chunks. Loading gives a bit-identical continuation."""
        return saved(self._timeline, self._tensors())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state_dict of a cache of the same spec and sizes. Raises ValueError otherwise."""
        self._timeline, self._rope = restored(self.spec, self._tensors(), state), None

    def _tensors(self) -> dict[str, Tensor]:
        """All buffers by name."""
        named = {f"workspace.{i}": tensor for i, tensor in enumerate(self._workspace)}
        for i, layer in enumerate(self._layers):
            for part in ("k", "v", "sink_k", "sink_v"):
                for j, slots in enumerate(getattr(layer, part)):
                    named[f"layers.{i}.{part}.{j}"] = slots
            if layer.sink_roped is not None:
                named[f"layers.{i}.sink_roped"] = layer.sink_roped
        return named


def _allocate(spec: CacheSpec, history: int, zeros: Callable[[int], Tensor]) -> _Layer:
    """Buffers of one layer; zeros(latents) makes one."""
    if spec.mode == "clean":
        slots = spec.sink + history + spec.chunk
        return _Layer([zeros(slots)], [zeros(slots)], sink_k=[zeros(spec.sink)] if spec.sink_moves else [])
    copies = range(spec.sink_copies if spec.sink else 0)
    return _Layer(
        k=[zeros(history) for _ in range(spec.steps)],
        v=[zeros(history) for _ in range(spec.steps)],
        sink_k=[zeros(spec.sink) for _ in copies],
        sink_v=[zeros(spec.sink) for _ in copies],
        sink_roped=zeros(spec.sink) if spec.sink_moves else None,
    )
