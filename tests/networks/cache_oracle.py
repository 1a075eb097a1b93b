"""The KV cache rules, done naively: keep everything, list what is visible and where, rotate at read."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import torch

CURRENT, HISTORY, SINK = "current", "history", "sink"


@functools.cache
def rotation(position: int, grid: tuple[int, int], width: int) -> torch.Tensor:
    """Complex factors of one latent's tokens, (tokens, 1, K / 2)."""
    rows, columns = grid
    spatial = 2 * (width // 6)
    factors = []
    for row in range(rows):
        for column in range(columns):
            angles = []
            for place, channels in ((position, width - 2 * spatial), (row, spatial), (column, spatial)):
                angles += [place * 10000.0 ** (-2 * j / channels) for j in range(channels // 2)]
            factors.append([complex(math.cos(a), math.sin(a)) for a in angles])
    return torch.tensor(factors, dtype=torch.complex128)[:, None]


def rotate(k_SNK: torch.Tensor, position: int, grid: tuple[int, int]) -> torch.Tensor:
    """Rotate one latent's keys (tokens, heads, K), float64, by complex multiplication."""
    pairs = torch.view_as_complex(k_SNK.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotation(position, grid, k_SNK.shape[-1])).flatten(-2)


@dataclass
class Oracle:
    """Every latent's unrotated keys and values, for ever; window rules read from the spec at each attention."""

    spec: object
    grid: tuple[int, int]
    heads: int
    next_latent: int = 0
    latents: int = 0
    made: list[int] = field(default_factory=list)
    store: dict = field(default_factory=dict)
    sink: dict = field(default_factory=dict)
    sink_count: int = 0

    def __post_init__(self):
        self.tokens = self.grid[0] * self.grid[1]

    def ring(self, step: int) -> int:
        return step if self.spec.mode == "per_step" else 0

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(1, L, D) -> (latents, tokens, heads, K) in float64."""
        return x[0].double().unflatten(0, (-1, self.tokens)).unflatten(-1, (self.heads, -1))

    def visible(self, layer: int, current: list[int]) -> list[tuple[str, int, int]]:
        """(role, latent, position) of everything a layer sees; positions as window-local numbers where it can."""
        spec, h_all = self.spec, max(self.spec.history)
        own_sink = spec.sink_source != "first_latents"
        anchors = list(range(self.sink_count)) if own_sink else self.made[: spec.sink]
        rest = self.made if own_sink else self.made[spec.sink :]
        history = rest[max(0, len(rest) - spec.history_of(layer)) :]
        longest = len(rest[max(0, len(rest) - h_all) :])
        position = {latent: latent for latent in [*rest, *current]}
        at = dict(zip(anchors, anchors, strict=True))
        if spec.sink_rule == "before_window":
            position = {latent: latent - current[0] + len(anchors) + longest for latent in position}
            at = {latent: i for i, latent in enumerate(anchors)}
        elif spec.sink_rule == "ahead":
            at = {latent: current[0] + spec.sink_offset + i for i, latent in enumerate(anchors)}
        listed = [(SINK, latent, at[latent]) for latent in anchors]
        listed += [(HISTORY, latent, position[latent]) for latent in history]
        return listed + [(CURRENT, latent, position[latent]) for latent in current]

    def begin_chunk(self, latents: int) -> None:
        self.latents = latents

    def attend(self, layer, step, q, k, v):
        """Attention of the chunk's queries to everything visible; remembers k and v of this pass."""
        ring = self.ring(step)
        current = list(range(self.next_latent, self.next_latent + self.latents))
        ks, vs, qs = self.split(k), self.split(v), self.split(q)
        for i, latent in enumerate(current):
            self.store[layer, ring, latent] = (ks[i], vs[i])
        listed = self.visible(layer, current)
        keys, values = [], []
        for role, latent, position in listed:
            own = role == SINK and self.spec.sink_source != "first_latents"
            key, value = self.sink[layer, latent] if own else self.store[layer, ring, latent]
            keys.append(rotate(key, position, self.grid))
            values.append(value)
        places = [position for role, _, position in listed if role == CURRENT]
        queries = [rotate(x, place, self.grid) for x, place in zip(qs, places, strict=True)]
        return softmax_attention(torch.cat(queries), torch.cat(keys), torch.cat(values))

    def end_chunk(self) -> None:
        self.made += range(self.next_latent, self.next_latent + self.latents)
        self.next_latent += self.latents

    def write_sink(self, layer, k, v) -> None:
        ks, vs = self.split(k), self.split(v)
        self.sink_count = len(ks)
        for i in range(len(ks)):
            self.sink[layer, i] = (ks[i], vs[i])


def softmax_attention(q_LNK: torch.Tensor, k_MNK: torch.Tensor, v_MNK: torch.Tensor) -> torch.Tensor:
    """(L, N, K) x (M, N, K) -> (L, N * K), float64."""
    scores = torch.einsum("lnk,mnk->nlm", q_LNK, k_MNK) / q_LNK.shape[-1] ** 0.5
    return torch.einsum("nlm,mnk->lnk", scores.softmax(-1), v_MNK).flatten(1)
