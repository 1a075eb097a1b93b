"""Measures of what a reader saw on faces: does the mouth follow its truth, can it be, do the eyes blink."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .reader import READ_NAMES
from .speech import mean_correlation

_LAGS = range(-2, 3)
_POINTS = 2000


def best_lag_correlation(read: list[np.ndarray], truth: list[np.ndarray]) -> tuple[float, int]:
    """Mean Pearson r over clips at the lag in frames (within +-2) where it is largest."""
    scores = {}
    for lag in _LAGS:
        pairs = [
            (r[max(0, lag) : len(r) + min(0, lag)], t[max(0, -lag) : len(t) - max(0, lag)])
            for r, t in zip(read, truth, strict=True)
        ]
        scores[lag] = float(np.mean([mean_correlation(r[None], t[None]) for r, t in pairs]))
    lag = max(scores, key=scores.get)
    return scores[lag], lag


def amplitude(read: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Deviation of the read opening over that of the true one: mean over clips whose mouth moves, nan for none."""
    shares = [r.std() / t.std() for r, t in zip(read, truth, strict=True) if t.std() > 0]
    return float(np.mean(shares)) if shares else math.nan


def blinks_per_minute(eyes: np.ndarray, *, fps: int = 25) -> float:
    """How often read eyes (F,) fall below half open."""
    closed = eyes < 0.5
    begun = int(closed[0]) + int((closed[1:] & ~closed[:-1]).sum())
    return begun * 60 * fps / len(eyes)


@dataclass(frozen=True)
class MouthManifold:
    """The mouths that speech can make: true ones (K, 3), columns READ_NAMES, and how far a reading of a true picture
    strays from them (99 of 100 less than limit).
    """

    points: np.ndarray
    limit: float

    @classmethod
    def fit(cls, truth: np.ndarray, read: np.ndarray) -> MouthManifold:
        """From the truth (N, 3 or more columns) of drawn frames and what a reader saw on other or the same ones."""
        names = len(READ_NAMES)
        points = truth[:: max(1, len(truth) // _POINTS), :names]
        return cls(points, float(np.percentile(_distances(read[:, :names], points), 99)))

    def outside(self, read: np.ndarray) -> float:
        """Share of read mouths (F, 3 or more columns) that lie off the manifold; 0.01 for true pictures."""
        return float((_distances(read[:, : len(READ_NAMES)], self.points) > self.limit).mean())


def _distances(read: np.ndarray, points: np.ndarray) -> np.ndarray:
    """To the nearest point, (N,)."""
    return np.array([np.sqrt(((points - row) ** 2).sum(axis=1).min()) for row in read])
