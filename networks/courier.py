"""Copies between main memory and a device that run beside the computation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class Courier:
    """Runs copies on a stream of their own, in order; on a device without streams, at once.

    Copies from and to page-locked memory then overlap with the computation; others are right, but wait.
    """

    def __init__(self, device: torch.device, *, beside: bool = True) -> None:
        """device: where the computation runs. beside: False runs everything at once on any device."""
        self._device = device
        self._stream = torch.cuda.Stream(device) if beside and device.type == "cuda" else None

    def run(self, work: Callable[[], None], *, using: Iterable[Tensor] = ()) -> torch.cuda.Event | None:
        """Do work after everything that the device was given so far. Returns what wait() waits for.

        using: tensors of the device that the work touches, so that their memory outlives it.
        """
        if self._stream is None:
            work()
            return None
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            work()
            done = self._stream.record_event()
        for tensor in using:
            tensor.record_stream(self._stream)
        return done

    def wait(self, done: torch.cuda.Event | None) -> None:
        """Let what the device is given from now on wait for that work."""
        if done is not None:
            torch.cuda.current_stream(self._device).wait_event(done)

    def finish(self) -> None:
        """Wait here until all work is done, before main memory is read or let go."""
        if self._stream is not None:
            self._stream.synchronize()
