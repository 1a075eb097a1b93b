"""What a stream's window holds, cut out of a clip: the sink, the history, the chunk in the making."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.cache_spec import CacheSpec
from ..networks.masks import chunk_causal_masks
from ..samplers.schedule import shift_sigma


@dataclass(frozen=True)
class Sequence:
    """Chunks of a clip as one training sequence.

    chunks: their indices in the clip; the last one is the chunk in the making. sink: latents of the clip's start in
    front of them, which stand for a sink pass of their own.
    """

    chunks: tuple[int, ...]
    spec: CacheSpec
    sink: int = 0

    def latents(self) -> list[int]:
        """Indices of the chunks' latents in the clip."""
        return [c * self.spec.chunk + i for c in self.chunks for i in range(self.spec.chunk)]

    def places(self) -> list[int]:
        """Indices of all latents of the sequence in the clip, the sink's in front."""
        return [*range(self.sink), *self.latents()]

    def by_latent(self, values_BN: Tensor) -> Tensor:
        """One number per chunk -> one per latent of the sequence, 0 in the sink in front: (B, T)."""
        return F.pad(values_BN.repeat_interleave(self.spec.chunk, dim=1), (self.sink, 0))

    def learnable(self) -> list[bool]:
        """Per chunk: whether the sequence shows it what a stream would.

        The last one; the clip's own start, unless its chunks lie elsewhere than in a stream or see themselves clean.
        """
        as_streamed = self._sink_position() == -self.sink
        last = len(self.chunks) - 1
        return [
            place == last or (c == place and (as_streamed if c else self.sink <= 1))
            for place, c in enumerate(self.chunks)
        ]

    def positions(self) -> list[int]:
        """Temporal position of each latent of the sequence, as the cache of the last chunk places them.

        Raises ValueError for a sink that runs ahead of the stream: one sequence cannot hold it.
        """
        if self.spec.sink_rule == "absolute" or not (self.sink or self._own_sink()):
            return self.places()
        if self.spec.sink_rule == "ahead":
            raise ValueError(
                "sink_rule is 'ahead'; a training sequence has one place for its sink: use 'before_window'."
            )
        first = self._sink_position()
        front = math.ceil(self._own_sink() / self.spec.chunk) * self.spec.chunk
        own = [first + latent if latent < front else latent for latent in self.latents()]
        return [*range(first, first + self.sink), *own]

    def masks(self, tokens: int, *, device: torch.device) -> tuple[Tensor, ...]:
        """What each layer of the cache's pattern sees; tokens: of one latent."""
        return chunk_causal_masks(self.spec, len(self.latents()), tokens, sink=self.sink, device=device)

    def _own_sink(self) -> int:
        """Latents of the clip that the sink is made of."""
        return self.spec.sink if self.spec.sink_source == "first_latents" else 0

    def _sink_position(self) -> int:
        """Position of the sink's first latent directly before the window of the last chunk."""
        first = self.chunks[-1] * self.spec.chunk
        history = min(self.spec.longest_history, max(0, first - self._own_sink()))
        return max(0, first - history - self._own_sink()) - self.sink


def draw_sequence(
    random: np.random.Generator, *, spec: CacheSpec, clip_chunks: int, early_share: float
) -> Sequence:
    """Sink, a later chunk's history, that chunk; often the first chunk whose window is full."""
    own_pass = spec.sink > 0 and spec.sink_source != "first_latents"
    history = math.ceil(spec.longest_history / spec.chunk)
    sink_chunks = 0 if own_pass else math.ceil(spec.sink / spec.chunk)
    full = min(sink_chunks + history, clip_chunks - 1)
    last = full if random.random() < early_share else int(random.integers(full, clip_chunks))
    if spec.sink_source == "reference_then_first_generated" and random.random() < 1 / (full + 1):
        last = 0
    chunks = sorted({*range(min(sink_chunks, last)), *range(max(0, last - history), last + 1)})
    replaced = own_pass and spec.sink_source == "reference_then_first_generated" and last > 0
    sink = min(spec.sink, spec.chunk if replaced else 1) if own_pass else 0
    return Sequence(tuple(chunks), spec, sink)


def draw_sigmas(
    random: np.random.Generator,
    shape: tuple[int, int],
    *,
    sampling: tuple[float, ...],
    share: float,
    shift: float,
) -> Tensor:
    """Noise levels (B, chunks): a share exactly at the sampler's levels, the rest uniform after the shift."""
    at_steps = random.choice(np.asarray(sampling), shape)
    spread = np.vectorize(shift_sigma)(random.uniform(0.02, 1.0, shape), shift)
    return torch.from_numpy(np.where(random.random(shape) < share, at_steps, spread)).float()
