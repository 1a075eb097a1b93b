"""Integrated loudness of a mono voice (ITU-R BS.1770-4) and the gain that brings it to a target.

K-weighting is a high shelf and a high pass; both ring for a fraction of a second, so the pair is applied as its
impulse response, by Fourier transform and in blocks: no recursion sample by sample, bounded memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import numpy as np

STEPS_PER_SECOND = 10
GATE_STEPS = 4  # gating blocks of 0.4 s that overlap by three quarters
ABSOLUTE_GATE = -70.0
RELATIVE_GATE = -10.0
OFFSET = -0.691
RING_SECONDS = 0.5
BLOCK_SAMPLES = 1 << 17


def loudness_lufs(blocks: Iterable[np.ndarray], sample_rate: int) -> float:
    """Integrated loudness in LUFS of a mono voice given as consecutive blocks (S,).

    Silence, and a voice shorter than one gating block of 0.4 s, are -inf: there is nothing to measure.
    """
    meter = _Meter(sample_rate)
    for block in blocks:
        meter.add(block)
    return meter.integrated()


def gain_to(target_lufs: float, measured_lufs: float) -> float:
    """Factor that brings a voice of the measured loudness to the target; 1 where nothing could be measured."""
    if not math.isfinite(measured_lufs):
        return 1.0
    return 10.0 ** ((target_lufs - measured_lufs) / 20.0)


class _Meter:
    """Energy of the K-weighted voice, as running sums at the bounds of its gating blocks."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._response = k_weighting(sample_rate)
        self._ring = np.zeros(0)
        self._total, self._seen = 0.0, 0
        self._sums: dict[int, float] = {0: 0.0}
        self._next = 1

    def add(self, samples_S: np.ndarray) -> None:
        """The next samples."""
        for start in range(0, len(samples_S), BLOCK_SAMPLES):
            self._add(np.asarray(samples_S[start : start + BLOCK_SAMPLES], np.float64))

    def _add(self, block: np.ndarray) -> None:
        length = len(block) + len(self._response) - 1
        size = 1 << (length - 1).bit_length()
        weighted = np.fft.irfft(np.fft.rfft(block, size) * np.fft.rfft(self._response, size), size)[:length]
        weighted[: len(self._ring)] += self._ring[:length]
        self._ring = weighted[len(block) :]
        energy = self._total + np.cumsum(weighted[: len(block)] ** 2)
        for place in self._bounds(self._seen + len(block)):
            self._sums[place] = float(energy[place - self._seen - 1])
        self._total, self._seen = float(energy[-1]), self._seen + len(block)

    def _bounds(self, stop: int) -> list[int]:
        """Starts and ends of gating blocks that lie in the part up to `stop`, in samples."""
        found = []
        while (place := self._next * self._rate // STEPS_PER_SECOND) <= stop:
            found.append(place)
            self._next += 1
        return found

    def integrated(self) -> float:
        """Mean over the gating blocks that are louder than both gates."""
        seconds = GATE_STEPS / STEPS_PER_SECOND
        places = sorted(self._sums)
        powers = np.array(
            [
                (self._sums[stop] - self._sums[start]) / (seconds * self._rate)
                for start, stop in zip(places, places[GATE_STEPS:], strict=False)
            ]
        )
        loud = powers[_level(powers) >= ABSOLUTE_GATE]
        if not len(loud):
            return -math.inf
        threshold = float(_level(loud.mean())) + RELATIVE_GATE
        loud = loud[_level(loud) > threshold]
        return float(_level(loud.mean())) if len(loud) else -math.inf


def _level(power: np.ndarray | float) -> np.ndarray:
    return OFFSET + 10.0 * np.log10(np.maximum(power, 1e-30))


@functools.lru_cache(maxsize=8)
def k_weighting(sample_rate: int) -> np.ndarray:
    """Impulse response of the K-weighting at a sample rate, float64, until it has died away."""
    impulse = np.zeros(max(16, round(RING_SECONDS * sample_rate)))
    impulse[0] = 1.0
    shelf = _high_shelf(sample_rate, decibels=4.0, quality=2**-0.5, hertz=1500.0)
    high_pass = _high_pass(sample_rate, quality=0.5, hertz=38.0)
    return _recursive(_recursive(impulse, *shelf), *high_pass)


Coefficients = tuple[np.ndarray, np.ndarray]


def _high_shelf(rate: int, *, decibels: float, quality: float, hertz: float) -> Coefficients:
    """Second-order high shelf (audio equaliser cookbook): numerator and denominator."""
    amplitude, angle = 10.0 ** (decibels / 40.0), 2.0 * math.pi * hertz / rate
    cos, alpha = math.cos(angle), math.sin(angle) / (2.0 * quality)
    slope = 2.0 * math.sqrt(amplitude) * alpha
    above, below = amplitude + 1.0, amplitude - 1.0
    b = np.array([above + below * cos + slope, -2.0 * (below + above * cos), above + below * cos - slope])
    a = np.array([above - below * cos + slope, 2.0 * (below - above * cos), above - below * cos - slope])
    return amplitude * b / a[0], a / a[0]


def _high_pass(rate: int, *, quality: float, hertz: float) -> Coefficients:
    """Second-order high pass (audio equaliser cookbook): numerator and denominator."""
    angle = 2.0 * math.pi * hertz / rate
    cos, alpha = math.cos(angle), math.sin(angle) / (2.0 * quality)
    b = np.array([(1.0 + cos) / 2.0, -(1.0 + cos), (1.0 + cos) / 2.0])
    a = np.array([1.0 + alpha, -2.0 * cos, 1.0 - alpha])
    return b / a[0], a / a[0]


def _recursive(x: np.ndarray, b: np.ndarray, a: np.ndarray) -> np.ndarray:
    """A second-order filter run sample by sample."""
    out = np.zeros_like(x)
    first = second = 0.0
    for i, sample in enumerate(x.tolist()):
        value = b[0] * sample + first
        first = b[1] * sample - a[1] * value + second
        second = b[2] * sample - a[2] * value
        out[i] = value
    return out
