"""The KV cache of a running stream whose past lies elsewhere, or in another format, than attention reads it.

In main memory, in eight bits, or both. A layer's past is copied into a stage on the device; from main memory there are
two, and one is filled while the layer before computes. A stage holds [sink | ring | live] in RingKVCache's order, so
the numbers are its own, to the bit where the past is kept in the network's format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .cache_plan import CLEAN_PASS, CacheChunk, Span, Timeline
from .cache_spec import CacheSpec
from .cache_state import restored, saved
from .courier import Courier
from .eight_bit import EightBitSlots
from .ops import rope_dtype
from .rope import Rope, Rotary, apply_rope

Slots = Tensor | EightBitSlots


@dataclass(frozen=True)
class _Layer:
    """The past of one layer; k, v: a ring for each step (or one), sinks unrotated where they move."""

    k: list[Slots]
    v: list[Slots]
    sink_k: list[Tensor]
    sink_v: list[Tensor]


@dataclass
class _Stage:
    """Keys and values of one layer on the device. layer: whose past is in it; ready: when it is."""

    k: Tensor
    v: Tensor
    layer: int | None = None
    ready: torch.cuda.Event | None = None


@dataclass(frozen=True)
class _View:
    """What layers of one history see of a chunk, in tokens of a stage.

    sink, past: tokens of the sink and of the ring behind it, as they were before the chunk. live: where the chunk's
    tokens go in the stage; kept: where they go in the ring. end: tokens in view.
    """

    sink: int
    past: int
    live: list[Span]
    kept: list[Span]
    end: int


class StagedKVCache:
    """KVCache for inference; see the KVCache protocol for the order of calls, begin_pass included."""

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
        device: torch.device | str = "cpu",
        home: torch.device | str | None = None,
        eight_bit: bool = False,
    ) -> None:
        """grid: token rows and columns of one latent; dtype: of keys and values as attention reads them.

        home: where the past is kept, the device unless given. eight_bit: keep it in eight bits, sinks in dtype.
        """
        device = torch.device(device)
        self.spec = spec
        self._tokens = grid[0] * grid[1]
        self._rotary = Rotary(grid, dim // heads, dtype=rope_dtype(dtype), device=device)
        self.courier = Courier(device, beside=home is not None)
        self._step = 0
        self._done: set[int] = set()
        self._views: dict[int, _View] = {}
        self.reset()

        def zeros(latents: int, where: torch.device | str) -> Tensor:
            return torch.zeros(batch, latents * self._tokens, dim, dtype=dtype, device=where)

        def ring(latents: int) -> Slots:
            if not eight_bit:
                return zeros(latents, home or device)
            return EightBitSlots(batch, latents * self._tokens, dim, heads, device=home or device)

        self._stages = [
            _Stage(zeros(spec.window, device), zeros(spec.window, device)) for _ in range(stage_count(home))
        ]
        live = spec.chunk if spec.mode == "clean" else 0
        self._layers = [
            _allocate(spec, spec.history_of(i) + live, ring, lambda n: zeros(n, home or device))
            for i in range(layers)
        ]

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
    def kept_bytes(self) -> int:
        """Bytes of the past, where it is kept; equal to ``CacheSpec.kept_bytes``."""
        return sum(tensor.nbytes for tensor in self.kept_tensors().values())

    @property
    def stage_bytes(self) -> int:
        """Bytes of the stages, on the device."""
        return sum(stage.k.nbytes + stage.v.nbytes for stage in self._stages)

    def positions(self) -> range:
        """Temporal positions of the running pass's latents."""
        return self._timeline.positions()

    def reset(self, *, next_latent: int = 0) -> None:
        """Forget everything; the stream starts at this latent number. Keeps the buffers."""
        self._timeline = Timeline(self.spec, next_latent=next_latent)
        self._rope: Rope | None = None
        self._sink_rope: Rope | None = None

    def begin_chunk(self, latents: int) -> None:
        """Choose the chunk's slots and the sink's position."""
        chunk = self._timeline.begin_chunk(latents)
        self._rope, self._sink_rope = self._rotary(chunk.positions), None
        if self.spec.sink_moves and chunk.sink_before:
            self._sink_rope = self._rotary(chunk.sink_positions(self.spec))
        self._done = set()
        self._views = {history: self._view(chunk, history) for history in set(self.spec.history)}

    def begin_pass(self, step: int) -> None:
        """Start a denoising step or CLEAN_PASS, and fetch the first layer's past."""
        self._timeline.check_step(step, self._done)
        self._step = step
        self._done.add(step)
        for stage in self._stages:
            stage.layer = None
        self._fetch(0)

    def end_chunk(self) -> None:
        """Make the chunk part of the past. Raises RuntimeError where a clean cache had no clean pass."""
        if self.spec.mode == "clean" and CLEAN_PASS not in self._done:
            raise RuntimeError("end_chunk before the clean pass, which alone is kept.")
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
        """Store a layer's unrotated keys and values; returns views of all that the layer sees, keys rotated.

        They hold until the layer after the next one is extended.
        """
        if k_BLD.shape[1] != len(self.positions()) * self._tokens:
            raise ValueError(
                f"got {k_BLD.shape[1]} tokens for {len(self.positions())} latents of {self._tokens} tokens."
            )
        roped = apply_rope(k_BLD, self.rope)
        sunk = k_BLD if self.spec.sink_moves else roped
        if self._timeline.sink_pass:
            kept = self._layers[layer]
            self._send(lambda: _sink_in(kept, 0, 0, sunk, v_BLD), sunk, v_BLD)
            return roped, v_BLD
        view, stage = self._views[self.spec.history_of(layer)], self._stage_of(layer)
        if self._sink_rope is not None:
            stage.k[:, : view.sink] = apply_rope(stage.k[:, : view.sink], self._sink_rope)
        for source, start, count in view.live:
            stage.k[:, start : start + count] = roped[:, source : source + count]
            stage.v[:, start : start + count] = v_BLD[:, source : source + count]
        if self.spec.mode == "per_step" or self._step == CLEAN_PASS:
            self._send(lambda: self._keep(layer, view, sunk, roped, v_BLD), sunk, roped, v_BLD)
        return stage.k[:, : view.end], stage.v[:, : view.end]

    def _stage_of(self, layer: int) -> _Stage:
        """The stage with this layer's past; the next layer's is under way."""
        stage = self._stages[layer % len(self._stages)]
        if stage.layer != layer:
            self._fetch(layer)
        self.courier.wait(stage.ready)
        if len(self._stages) > 1:
            self._fetch(layer + 1)
        return stage

    def _fetch(self, layer: int) -> None:
        """Copy a layer's past into its stage."""
        if layer == len(self._layers):
            return
        stage, kept = self._stages[layer % len(self._stages)], self._layers[layer]
        view, copy = self._views[self.spec.history_of(layer)], self._sink_copy

        def copies() -> None:
            for out, ring, sinks in ((stage.k, kept.k, kept.sink_k), (stage.v, kept.v, kept.sink_v)):
                if view.sink:
                    out[:, : view.sink].copy_(sinks[copy][:, : view.sink], non_blocking=True)
                _read(ring[self._ring], out[:, view.sink : view.sink + view.past])

        stage.layer = layer
        stage.ready = self.courier.run(copies, using=(stage.k, stage.v))

    def _send(self, work: Callable[[], None], *using: Tensor) -> None:
        """Bring what a pass has made to where the past is kept."""
        self.courier.run(work, using=using)

    def _keep(self, layer: int, view: _View, sunk: Tensor, roped: Tensor, v: Tensor) -> None:
        """Put the chunk's keys and values into the layer's past."""
        kept, chunk = self._layers[layer], self._timeline.open_chunk()
        for source, slot, count in view.kept:
            _write(kept.k[self._ring], slot, roped[:, source : source + count])
            _write(kept.v[self._ring], slot, v[:, source : source + count])
        if chunk.sink_new:
            count, start = chunk.sink_new * self._tokens, chunk.sink_before * self._tokens
            _sink_in(kept, self._sink_copy, start, sunk[:, :count], v[:, :count])

    @property
    def _ring(self) -> int:
        return self._step if self.spec.mode == "per_step" else 0

    @property
    def _sink_copy(self) -> int:
        return self._ring if self.spec.sink_copies > 1 else 0

    def _view(self, chunk: CacheChunk, history: int) -> _View:
        """See _View; the order of a stage is that of RingKVCache's buffers."""
        clean = self.spec.mode == "clean"
        capacity = history + (self.spec.chunk if clean else 0)
        kept = chunk.ring_spans(capacity)
        past = min(chunk.ring_before, capacity)
        if clean:
            sink = chunk.sink_before + chunk.sink_new
            live = [(0, chunk.sink_before, chunk.sink_new)] if chunk.sink_new else []
            live += [(source, sink + slot, count) for source, slot, count in kept]
            end = sink + min(chunk.ring_before + chunk.ring_new, capacity)
        else:
            live, end = (
                [(0, chunk.sink_before + past, chunk.latents)],
                chunk.sink_before + past + chunk.latents,
            )
        tokens = self._tokens
        live, kept = ([(a * tokens, b * tokens, n * tokens) for a, b, n in spans] for spans in (live, kept))
        return _View(chunk.sink_before * tokens, past * tokens, live, kept, end * tokens)

    def kept_tensors(self) -> dict[str, Tensor]:
        """The buffers of the past by name."""
        named: dict[str, Tensor] = {}
        for i, layer in enumerate(self._layers):
            for part in ("k", "v", "sink_k", "sink_v"):
                for j, slots in enumerate(getattr(layer, part)):
                    named |= _named(f"layers.{i}.{part}.{j}", slots)
        return named

    def finish(self) -> None:
        """Wait for copies that are under way, before the buffers are read or let go."""
        self.courier.finish()

    def state_dict(self) -> dict[str, Any]:
        """The past, copied to the CPU, and counters, between chunks. Loading gives a bit-identical continuation."""
        self.finish()
        return saved(self._timeline, self.kept_tensors())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state_dict of a cache of the same spec and sizes. Raises ValueError otherwise."""
        self.finish()
        self._timeline, self._rope = restored(self.spec, self.kept_tensors(), state), None


def stage_count(home: torch.device | str | None) -> int:
    """One where the past lies on the device, two where it travels."""
    return 1 if home is None else 2


def _allocate(
    spec: CacheSpec, slots: int, ring: Callable[[int], Slots], zeros: Callable[[int], Tensor]
) -> _Layer:
    """Buffers of one layer with rings of this many latents."""
    rings, copies = range(spec.rings), range(spec.sink_copies if spec.sink else 0)
    return _Layer(
        k=[ring(slots) for _ in rings],
        v=[ring(slots) for _ in rings],
        sink_k=[zeros(spec.sink) for _ in copies],
        sink_v=[zeros(spec.sink) for _ in copies],
    )


def _sink_in(layer: _Layer, copy: int, start: int, k: Tensor, v: Tensor) -> None:
    """Put keys and values into a sink."""
    stop = start + k.shape[1]
    layer.sink_k[copy][:, start:stop].copy_(k, non_blocking=True)
    layer.sink_v[copy][:, start:stop].copy_(v, non_blocking=True)


def _read(slots: Slots, out_BLD: Tensor) -> None:
    """The first slots, as many as `out` holds."""
    if isinstance(slots, EightBitSlots):
        slots.read_into(out_BLD)
    else:
        out_BLD.copy_(slots[:, : out_BLD.shape[1]], non_blocking=True)


def _write(slots: Slots, start: int, part_BLD: Tensor) -> None:
    """Tokens into the slots from `start` on."""
    if isinstance(slots, EightBitSlots):
        slots.write(start, part_BLD)
    else:
        slots[:, start : start + part_BLD.shape[1]].copy_(part_BLD, non_blocking=True)


def _named(name: str, slots: Slots) -> dict[str, Tensor]:
    """Tensors of one buffer by name."""
    if isinstance(slots, EightBitSlots):
        return {f"{name}.values": slots.values, f"{name}.scales": slots.scales}
    return {name: slots}
