"""What a KV cache has to remember, as numbers: window, sink, rule and mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SinkRule = Literal["absolute", "before_window", "ahead"]
SinkSource = Literal["first_latents", "reference", "reference_then_first_generated"]
CacheMode = Literal["clean", "per_step"]

SINK_RULES: tuple[SinkRule, ...] = ("absolute", "before_window", "ahead")
SINK_SOURCES: tuple[SinkSource, ...] = ("first_latents", "reference", "reference_then_first_generated")
CACHE_MODES: tuple[CacheMode, ...] = ("clean", "per_step")


@dataclass(frozen=True)
class CacheSpec:
    """Size and rules of a student's KV cache; all lengths are latent frames.

    chunk: latents denoised together.
    sink: latents that are kept for ever.
    sink_rule: temporal position of the sink keys. ``absolute``: where they were written.
        ``before_window``: directly before the oldest latent that the longest-sighted layer sees (the same
        distances as numbering the window 0..W-1). ``ahead``: ``sink_offset`` after the chunk's first latent.
    sink_source: ``first_latents``: the stream's first latents, written as they are made. ``reference`` and
        ``reference_then_first_generated``: written by sink passes of their own.
    history: latents kept besides sink and chunk, per layer; a shorter tuple repeats over the layers.
    mode: ``clean``: one cache, its last pass at the context timestep. ``per_step``: one cache per step.
    steps: denoising steps.
    """

    chunk: int
    sink: int
    history: tuple[int, ...]
    sink_rule: SinkRule = "absolute"
    sink_offset: int = 0
    sink_source: SinkSource = "first_latents"
    mode: CacheMode = "clean"
    steps: int = 1

    def __post_init__(self) -> None:
        """Check every field. Raises ValueError naming the field, the value and what is allowed."""
        _check_choice("sink_rule", self.sink_rule, SINK_RULES)
        _check_choice("sink_source", self.sink_source, SINK_SOURCES)
        _check_choice("cache mode", self.mode, CACHE_MODES)
        for name, value, least in (
            ("chunk", self.chunk, 1),
            ("sink", self.sink, 0),
            ("steps", self.steps, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value} latents; it must be at least {least}.")
        if not self.history or min(self.history) < 0:
            raise ValueError(
                f"history is {self.history}; give one number >= 0 for each layer of the pattern."
            )
        if self.sink_offset and self.sink_rule != "ahead":
            raise ValueError(
                f"sink_offset {self.sink_offset} needs sink_rule 'ahead', not '{self.sink_rule}'."
            )

    @property
    def longest_history(self) -> int:
        """Latents of history in the layer that sees furthest back; sink positions are taken from it."""
        return max(self.history)

    @property
    def window(self) -> int:
        """Latents that the longest-sighted layer attends to once the cache is full."""
        return self.sink + self.longest_history + self.chunk

    @property
    def sink_moves(self) -> bool:
        """Whether sink keys change their position, so that they are kept without rotation too."""
        return self.sink > 0 and self.sink_rule != "absolute"

    @property
    def rings(self) -> int:
        """Caches per layer: one for each step, or one."""
        return self.steps if self.mode == "per_step" else 1

    @property
    def sink_copies(self) -> int:
        """Sinks per layer: one for each step where the sink is made of latents in the making."""
        return self.rings if self.sink_source == "first_latents" else 1

    def history_of(self, layer: int) -> int:
        """Latents of history in one layer."""
        return self.history[layer % len(self.history)]

    def bytes(self, *, layers: int, dim: int, tokens: int, itemsize: int, batch: int = 1) -> int:
        """Exact size of a cache whose past lies as attention reads it. tokens: per latent; itemsize: of a number."""
        unit = itemsize * dim * tokens * batch
        chunk = self.chunk if self.mode == "clean" else 0
        latents = sum(
            self.rings * self.history_of(i) + chunk + self.sink_copies * self.sink for i in range(layers)
        )
        workspace = self.window if self.mode == "per_step" else 0
        moving = self.sink * layers if self.sink_moves else 0
        return unit * (2 * (latents + workspace) + moving)

    def kept_bytes(
        self, *, layers: int, dim: int, tokens: int, itemsize: int, token_bytes: int, batch: int = 1
    ) -> int:
        """Exact size of the past alone, where it lies apart. token_bytes: of one token's keys in the rings."""
        chunk = self.chunk if self.mode == "clean" else 0
        rings = self.rings * sum(self.history_of(i) + chunk for i in range(layers))
        sinks = layers * self.sink_copies * self.sink
        return 2 * tokens * batch * (rings * token_bytes + sinks * itemsize * dim)


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is '{value}'; allowed: {', '.join(allowed)}.")
