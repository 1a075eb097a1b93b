"""The KV cache for training: the same visible set and positions as the ring, made by concatenation.

The past carries no gradient, the running pass does. (Writing into a ring would overwrite what backward needs.)
Do not wrap blocks in gradient checkpointing with it: a recomputed pass would see a later past.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .cache_plan import CacheChunk, Timeline
from .cache_spec import CacheSpec
from .ops import rope_dtype
from .rope import Rope, Rotary, apply_rope

Pair = tuple[Tensor, Tensor]


class GrowingKVCache:
    """KVCache for training rollouts; see the KVCache protocol for the order of calls."""

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
        """grid: token rows and columns of one latent; dtype: of the activations. Takes any batch size."""
        self.spec = spec
        self._tokens = grid[0] * grid[1]
        self._rotary = Rotary(grid, dim // heads, dtype=rope_dtype(dtype), device=device)
        self.reset()

    @property
    def next_latent(self) -> int:
        """Number of the first latent to come."""
        return self._timeline.next_latent

    @property
    def rope(self) -> Rope:
        """Rotation of the running pass's tokens."""
        if self._rope is None:
            raise RuntimeError("no pass is running; call begin_chunk or begin_sink first.")
        return self._rope

    def positions(self) -> range:
        """Temporal positions of the running pass's latents."""
        return self._timeline.positions()

    def reset(self, *, next_latent: int = 0) -> None:
        """Forget everything; the stream starts at this latent number."""
        self._timeline = Timeline(self.spec, next_latent=next_latent)
        self._rope: Rope | None = None
        self._sink_rope: Rope | None = None
        self._step = 0
        self._done: set[int] = set()
        self._past: dict[tuple[int, int], Pair] = {}
        self._sink: dict[tuple[int, int], Pair] = {}
        self._live: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    @property
    def rewindable(self) -> int:
        """Latents that can be written again: all that were, but for those that the sink is made of."""
        kept = self._timeline.sink_filled if self.spec.sink_source == "first_latents" else 0
        return self._timeline.next_latent - kept

    def rewind(self, latents: int) -> None:
        """Forget the history and go back so many latents, to write them again; the sink stays.

        Raises ValueError where that would take the stream before its start, or into a sink of its first latents.
        """
        self._timeline.check_between_chunks("rewind")
        if not 0 <= latents <= self.rewindable:
            raise ValueError(
                f"cannot go back {latents} latents from latent {self.next_latent}; "
                f"{self.rewindable} of them can be written again."
            )
        target, sink = self._timeline.next_latent - latents, self._timeline.sink_filled
        self._timeline = Timeline(self.spec, next_latent=target, sink_filled=sink)
        self._past = {}

    def begin_chunk(self, latents: int) -> None:
        """Start the next chunk."""
        chunk = self._timeline.begin_chunk(latents)
        self._rope = self._rotary(chunk.positions)
        self._sink_rope = None
        if self.spec.sink_moves and chunk.sink_before:
            self._sink_rope = self._rotary(chunk.sink_positions(self.spec))
        self._step = 0
        self._done = set()
        self._live = {}

    def begin_pass(self, step: int) -> None:
        """Start a denoising step or CLEAN_PASS."""
        self._timeline.check_step(step, self._done)
        self._step = step if self.spec.mode == "per_step" else 0
        self._done.add(step)

    def end_chunk(self) -> None:
        """Make the last keys and values of every layer and step part of the past."""
        chunk = self._timeline.end_chunk()
        for (layer, ring), live in self._live.items():
            self._commit(chunk, layer, ring, live)
        self._live = {}
        self._rope = None

    def begin_sink(self, latents: int) -> None:
        """Start the pass that writes the sink."""
        self._timeline.begin_sink(latents)
        self._rope = self._rotary(range(latents))

    def end_sink(self) -> None:
        """Put the new sink in place of the old one."""
        self._timeline.end_sink()
        self._rope = None

    def extend(self, layer: int, k_BLD: Tensor, v_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Note a layer's unrotated keys and values; returns all that the layer sees, keys rotated."""
        roped = apply_rope(k_BLD, self.rope)
        raw = k_BLD if self.spec.sink_moves else roped
        if self._timeline.sink_pass:
            self._sink[layer, 0] = (raw.detach(), v_BLD.detach())
            return roped, v_BLD
        self._live[layer, self._step] = (raw.detach(), roped.detach(), v_BLD.detach())
        keys, values = [], []
        sink = self._sink.get((layer, self._step if self.spec.sink_copies > 1 else 0))
        if sink is not None:
            keys.append(sink[0] if self._sink_rope is None else apply_rope(sink[0], self._sink_rope))
            values.append(sink[1])
        past = self._past.get((layer, self._step))
        if past is not None:
            keys.append(past[0])
            values.append(past[1])
        return torch.cat([*keys, roped], dim=1), torch.cat([*values, v_BLD], dim=1)

    def state_dict(self) -> dict[str, Any]:
        """Past, sink and counters between chunks, copied to the CPU. Loading gives a bit-identical continuation."""
        state: dict[str, Any] = self._timeline.counters()
        for name, pairs in (("past", self._past), ("sink", self._sink)):
            for (layer, ring), (k, v) in pairs.items():
                state[f"{name}.{layer}.{ring}.k"] = k.to("cpu", copy=True)
                state[f"{name}.{layer}.{ring}.v"] = v.to("cpu", copy=True)
        return state

    def load_state_dict(self, state: Mapping[str, Any], *, device: torch.device | str | None = None) -> None:
        """Continue from a state_dict of a cache of the same spec, with its tensors on a device."""
        self.reset()
        counters = {name: int(state[name]) for name in Timeline(self.spec).counters()}
        self._timeline = Timeline(self.spec, **counters)
        for name in state:
            if not name.endswith(".k"):
                continue
            kind, layer, ring, _ = name.split(".")
            pair = (state[name].to(device), state[f"{name[:-1]}v"].to(device))
            (self._past if kind == "past" else self._sink)[int(layer), int(ring)] = pair

    def _commit(self, chunk: CacheChunk, layer: int, ring: int, live: tuple[Tensor, Tensor, Tensor]) -> None:
        raw, roped, v = live
        to_sink = chunk.sink_new * self._tokens
        if to_sink:
            self._sink[layer, ring] = _append(
                self._sink.get((layer, ring)), (raw[:, :to_sink], v[:, :to_sink])
            )
        keep = self.spec.history_of(layer) * self._tokens
        if keep and chunk.ring_new:
            k, v = _append(self._past.get((layer, ring)), (roped[:, to_sink:], v[:, to_sink:]))
            self._past[layer, ring] = (k[:, -keep:], v[:, -keep:])


def _append(past: Pair | None, new: Pair) -> Pair:
    if past is None:
        return new
    return torch.cat([past[0], new[0]], dim=1), torch.cat([past[1], new[1]], dim=1)
