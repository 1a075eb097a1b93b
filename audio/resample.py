"""Another sample rate, for a whole waveform or for any stretch of it on its own.

A stretch is cut from the native samples with a margin, so that its value depends on those samples alone:
what follows later cannot change it, and memory does not grow with the clip.
"""

from __future__ import annotations

import librosa
import numpy as np

from .rates import common_block, resampled_length
from .sources import SampleSource

QUALITY = "soxr_hq"
# The filter's reach: 10 ms leaves 1e-5 of white noise at the edge, 20 ms rounding only.
MARGIN_BEFORE_SECONDS = 0.02
MARGIN_AFTER_SECONDS = 0.01
MARGIN_SAMPLES = 80  # below 8 kHz the filter reaches further in seconds


def resample(samples_S: np.ndarray, *, from_rate: int, to_rate: int) -> np.ndarray:
    """(S,) float32 -> (ceil(S * to / from),) float32."""
    if from_rate == to_rate or len(samples_S) == 0:
        return samples_S
    out = librosa.resample(samples_S, orig_sr=from_rate, target_sr=to_rate, res_type=QUALITY)
    return np.ascontiguousarray(out, dtype=np.float32)


class ResampledReader:
    """A source as it would sound at another rate, any stretch at a time."""

    def __init__(self, source: SampleSource, *, rate: int) -> None:
        self.rate = rate
        self.source = source
        self._native_block, self._block = common_block(source.sample_rate, rate)
        native = source.sample_rate
        self._before = max(int(MARGIN_BEFORE_SECONDS * native), MARGIN_SAMPLES)
        self._after = max(int(MARGIN_AFTER_SECONDS * native), MARGIN_SAMPLES)

    @property
    def length(self) -> int | None:
        """Samples at the new rate, or None while more may come."""
        length = self.source.length
        return None if length is None else resampled_length(length, self.source.sample_rate, self.rate)

    def native_range(self, start: int, stop: int) -> tuple[int, int]:
        """Native samples that read(start, stop) looks at; the margins may lie outside the clip."""
        native = self.source.sample_rate
        if native == self.rate:
            return start, stop
        first_block = (start * native // self.rate - self._before) // self._native_block
        return first_block * self._native_block, resampled_length(stop, self.rate, native) + self._after

    def read(self, start: int, stop: int) -> np.ndarray:
        """(S,) float32 over [start, stop) at the new rate; zeros outside the clip."""
        native = self.source.sample_rate
        if native == self.rate:
            return self.source.read(start, stop)
        first, last = self.native_range(start, stop)
        cut = resample(self.source.read(first, last), from_rate=native, to_rate=self.rate)
        offset = start - first // self._native_block * self._block
        return cut[offset : offset + stop - start]
