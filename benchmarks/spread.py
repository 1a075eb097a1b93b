"""Means over seeds, their spread, and whether a difference is larger than it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Goal = Literal["high", "low", "one"]
_ERRORS = 2.0  # a difference counts from so many of its standard errors on


@dataclass(frozen=True)
class Spread:
    """Mean and sample deviation over seeds; deviation nan for one seed."""

    mean: float
    deviation: float
    seeds: int

    def text(self, digits: int) -> str:
        """Such as 0.85 ± 0.01; the mean alone for one seed."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.seeds < 2 else f"{mean} ± {self.deviation:.{digits}f}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample deviation. Raises ValueError for no values."""
    if not values:
        raise ValueError("there are no values; give at least one")
    mean = sum(values) / len(values)
    if len(values) < 2:
        return Spread(mean, math.nan, 1)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Spread(mean, math.sqrt(variance), len(values))


@dataclass(frozen=True)
class Difference:
    """How much better one setting is than another, above 0 where it is better, and the difference's standard error.

    error: nan where either setting has one seed.
    """

    gain: float
    error: float

    @property
    def verdict(self) -> Literal["helps", "hurts", "does not help here", "one seed"]:
        """What can be said: only a gain or loss of at least two standard errors counts."""
        if math.isnan(self.error):
            return "one seed"
        if abs(self.gain) < _ERRORS * self.error or self.gain == 0:
            return "does not help here"
        return "helps" if self.gain > 0 else "hurts"


def difference(with_it: Sequence[float], without: Sequence[float], *, goal: Goal) -> Difference:
    """What a part brings: values of seeds with it against those without it.

    goal: whether high or low values are good, or ones near 1.
    """
    good = [_goodness(values, goal) for values in (with_it, without)]
    a, b = (spread(values) for values in good)
    error = math.sqrt(a.deviation**2 / a.seeds + b.deviation**2 / b.seeds)
    return Difference(a.mean - b.mean, error)


def _goodness(values: Sequence[float], goal: Goal) -> list[float]:
    if goal == "one":
        return [-abs(value - 1) for value in values]
    return [value if goal == "high" else -value for value in values]
