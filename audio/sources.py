"""Where samples come from: a finished clip, or a voice that is still arriving. Read as mono, by sample index.

A source keeps the native sample rate. Nothing copies the clip: a read touches only the samples asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class SampleSource(Protocol):
    """Mono samples at a native rate, addressed by absolute index."""

    sample_rate: int

    @property
    def length(self) -> int | None:
        """Samples in the clip, or None while more may come."""
        ...

    def read(self, start: int, stop: int) -> np.ndarray:
        """(S,) float32 mean of the channels over [start, stop); zeros before 0 and after the end."""
        ...


class ClipSource:
    """A whole clip that somebody else holds."""

    def __init__(self, clip_CS: Tensor, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._clip_CS = clip_CS

    @property
    def length(self) -> int:
        """Samples per channel."""
        return int(self._clip_CS.shape[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """(S,) float32 mono over [start, stop), zeros outside the clip."""
        _check_range(start, stop)
        first, last = min(max(start, 0), self.length), min(max(stop, 0), self.length)
        part = to_mono(self._clip_CS[:, first:last].detach().cpu().float().numpy())
        return _placed(part, first - start, stop - start)


class LiveSource:
    """A voice that arrives in pieces. Only the samples after the last `forget` are kept.

    One writer pushes, one reader reads; the lock, if they are threads, is theirs.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._first = 0  # index of the first kept sample
        self._kept = np.zeros(0, np.float32)
        self._closed = False

    @property
    def received(self) -> int:
        """Samples pushed so far."""
        return self._first + len(self._kept)

    @property
    def length(self) -> int | None:
        """Samples in the clip once it is closed, None before."""
        return self.received if self._closed else None

    def push(self, samples_CS: Tensor) -> None:
        """Append (C, S) samples at the native rate. Raises ValueError after close() or on non-finite samples."""
        if self._closed:
            raise ValueError("samples came after the voice was closed; open a new session for a new voice")
        mono = to_mono(samples_CS.detach().cpu().float().numpy())
        if not np.isfinite(mono).all():
            raise ValueError("the pushed audio holds NaN or infinite samples; expected finite numbers")
        self._kept = np.concatenate([self._kept, mono])

    def close(self) -> None:
        """No more samples: what lies after the end reads as silence."""
        self._closed = True

    def forget(self, before: int) -> None:
        """Drop the samples below index `before`; they cannot be read again."""
        drop = min(max(before - self._first, 0), len(self._kept))
        self._kept = self._kept[drop:].copy()
        self._first += drop

    def read(self, start: int, stop: int) -> np.ndarray:
        """(S,) float32 over [start, stop). Raises ValueError for samples forgotten or not yet pushed."""
        _check_range(start, stop)
        if max(start, 0) < min(self._first, stop):
            raise ValueError(
                f"samples from {max(start, 0)} were dropped; the oldest one kept is {self._first}"
            )
        if stop > self.received and not self._closed:
            raise ValueError(
                f"sample {stop - 1} has not arrived yet: {self.received} so far; push more or close"
            )
        first, last = min(max(start, 0), self.received), min(max(stop, 0), self.received)
        return _placed(self._kept[first - self._first : last - self._first], first - start, stop - start)

    def state_dict(self) -> dict[str, Tensor | int | bool]:
        """Everything needed to go on: kept samples, their index, whether the voice ended."""
        return {"first": self._first, "kept": torch.from_numpy(self._kept.copy()), "closed": self._closed}

    def load_state_dict(self, state: Mapping[str, Tensor | int | bool]) -> None:
        """Continue where state_dict() was taken."""
        self._first = int(state["first"])
        self._kept = torch.as_tensor(state["kept"]).numpy().copy()
        self._closed = bool(state["closed"])


def to_mono(samples_CS: np.ndarray) -> np.ndarray:
    """(C, S) -> (S,) float32: the mean of the channels, the same bits however the clip was cut."""
    if samples_CS.shape[0] == 1:
        return samples_CS[0]
    return samples_CS.mean(axis=0, dtype=np.float32)


def _placed(part: np.ndarray, offset: int, length: int) -> np.ndarray:
    """`part` at `offset` in `length` zeros."""
    if len(part) == length:
        return np.array(part, dtype=np.float32)
    out = np.zeros(length, np.float32)
    if len(part):
        out[offset : offset + len(part)] = part
    return out


def _check_range(start: int, stop: int) -> None:
    if stop < start:
        raise ValueError(f"cannot read samples [{start}, {stop}): the end lies before the start")
