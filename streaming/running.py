"""What every running stream shares: a voice that is finished or arrives live, and chunks made one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from ..audio.sources import LiveSource
from .chunks import ChunkPlan
from .motion import MotionSpec

LATENT_CHANNELS = 16


@dataclass(frozen=True, eq=False)
class Latents:
    """A finished chunk. latent: (1, 16, T, H, W), float32, as the network made it.

    first_frame, frames: the frames of the video it holds; skip: decoded frames before them that are not shown.
    """

    index: int
    latent_BCTHW: Tensor
    first_frame: int
    frames: int
    skip: int
    last: bool


class RunningStream:
    """A session of any family. Use as a context manager, or call close(); iterate chunks() in between.

    A subclass makes one chunk (_make_chunk, which counts _next up), says which native samples a chunk hears
    (_needed_samples), and plans the chunks (plan).
    """

    def __init__(self, source: LiveSource | None) -> None:
        """source: of a voice that arrives live, else None."""
        self._source = source
        self._next = 0
        self._closed = False

    def __enter__(self) -> RunningStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def plan(self) -> ChunkPlan | MotionSpec:
        """The chunks to come; of a live voice, its length is known once finish() was called."""
        raise NotImplementedError

    def _make_chunk(self) -> Latents:
        """The next chunk, which is then behind us."""
        raise NotImplementedError

    def _needed_samples(self, index: int) -> tuple[int, int]:
        """Native samples [start, stop) to have before a chunk is made; asked for a live voice only."""
        raise NotImplementedError

    def push(self, samples_CS: Tensor) -> None:
        """More of a live voice, (C, S) at the spec's sample rate. Raises ValueError for a finished clip."""
        self._live_source().push(samples_CS)

    def finish(self) -> None:
        """The live voice ends here: chunks() goes on to its last frame."""
        self._live_source().close()

    def chunks(self) -> Iterator[Latents]:
        """Every chunk that can be made now: to the end, or as far as a live voice has been heard."""
        while not self._closed and self._ready():
            yield self._make_chunk()

    def close(self) -> None:
        """End the stream; chunks() yields nothing more. Safe to call twice."""
        self._closed = True

    def _ready(self) -> bool:
        """Is there another chunk, and has a live voice been heard as far as it needs?"""
        chunks = self.plan.chunks
        if chunks is not None:
            return self._next < chunks
        return self._live_source().received >= self._needed_samples(self._next)[1]

    def _forget(self) -> None:
        """Let a live voice drop what no later chunk hears."""
        if self._source is not None:
            self._source.forget(self._needed_samples(self._next)[0])

    def _live_source(self) -> LiveSource:
        if self._source is None:
            raise ValueError(
                "this stream has its whole voice already; open one with a LiveSource to push samples"
            )
        return self._source


def check_finite(latent_BCTHW: Tensor, *, chunk: int) -> None:
    """Raises ValueError where a chunk holds values that are no numbers."""
    if not bool(torch.isfinite(latent_BCTHW).all()):
        raise ValueError(
            f"chunk {chunk} came out with NaN or infinite values; use a higher precision for the "
            "student, or check its file and the LoRAs on it"
        )
