"""Where a stream's Gaussian noise comes from.

Noise is drawn per chunk and step, never for a whole clip, so a stream has no length and a chunk's noise
does not depend on how much follows. Every source answers with float32 CPU tensors (or the tensors it was
given); the caller moves them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class NoiseSource(Protocol):
    """Noise of chunk `chunk`: what step 0 starts from, and what is added after step `step`."""

    def initial(self, chunk: int, shape: tuple[int, ...]) -> Tensor:
        """Starting noise, shape (B, C, T, H, W)."""
        ...

    def renoise(self, chunk: int, step: int, shape: tuple[int, ...]) -> Tensor:
        """Fresh noise that leads from step `step` to the next, shape (B, C, T, H, W)."""
        ...


class SeededNoise:
    """Reproducible noise: a CPU float32 generator keyed by seed, segment, chunk and step.

    The same key gives the same numbers on every device, in any order of calls. `segment` sets parts of one
    clip apart (a scene, a retake). Equal seeds promise nothing against the reference implementations,
    which draw one global tensor.
    """

    def __init__(self, seed: int, *, segment: int = 0) -> None:
        self.seed = seed
        self.segment = segment

    def initial(self, chunk: int, shape: tuple[int, ...]) -> Tensor:
        """Starting noise of a chunk, float32 on the CPU."""
        return self._draw(chunk, 0, shape)

    def renoise(self, chunk: int, step: int, shape: tuple[int, ...]) -> Tensor:
        """Noise for the input of step `step` + 1, float32 on the CPU."""
        return self._draw(chunk, step + 1, shape)

    def _draw(self, chunk: int, step: int, shape: tuple[int, ...]) -> Tensor:
        generator = torch.Generator("cpu").manual_seed(noise_key(self.seed, self.segment, chunk, step))
        return torch.randn(shape, generator=generator, dtype=torch.float32)


def noise_key(seed: int, segment: int, chunk: int, step: int) -> int:
    """64-bit key of one draw (blake2b): neighbouring seeds, chunks and steps share nothing."""
    text = f"talkstream noise {seed} {segment} {chunk} {step}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class RecordedNoise:
    """Noise written down before, for parity with a reference run.

    draws: (chunk, input step) -> tensor; step 0 is the starting noise, step i + 1 the noise after step i.
    """

    def __init__(self, draws: Mapping[tuple[int, int], Tensor]) -> None:
        self.draws = dict(draws)

    def initial(self, chunk: int, shape: tuple[int, ...]) -> Tensor:
        """Recorded starting noise of a chunk."""
        return self._recorded(chunk, 0, shape)

    def renoise(self, chunk: int, step: int, shape: tuple[int, ...]) -> Tensor:
        """Recorded noise for the input of step `step` + 1."""
        return self._recorded(chunk, step + 1, shape)

    def _recorded(self, chunk: int, step: int, shape: tuple[int, ...]) -> Tensor:
        if (chunk, step) not in self.draws:
            raise ValueError(f"no noise was recorded for chunk {chunk}, step {step}; use SeededNoise")
        noise = self.draws[chunk, step]
        if tuple(noise.shape) != tuple(shape):
            raise ValueError(
                f"recorded noise of chunk {chunk}, step {step} has shape {tuple(noise.shape)}, "
                f"expected {tuple(shape)}"
            )
        return noise


class GivenNoise:
    """A clip's starting noise from outside (core's NOISE); later draws come from `renoises`."""

    def __init__(self, initial_BCTHW: Tensor, *, renoises: NoiseSource) -> None:
        self.initial_BCTHW = initial_BCTHW
        self.renoises = renoises

    def initial(self, chunk: int, shape: tuple[int, ...]) -> Tensor:
        """The chunk's slice of the given tensor, (B, C, T, H, W)."""
        first = chunk * shape[2]
        noise = self.initial_BCTHW[:, :, first : first + shape[2]]
        if tuple(noise.shape) != tuple(shape):
            raise ValueError(
                f"given noise covers {self.initial_BCTHW.shape[2]} latents and has slices of shape "
                f"{tuple(noise.shape)}, chunk {chunk} needs {tuple(shape)}; make it as long as the stream"
            )
        return noise

    def renoise(self, chunk: int, step: int, shape: tuple[int, ...]) -> Tensor:
        """Noise after step `step`, from the second source."""
        return self.renoises.renoise(chunk, step, shape)
