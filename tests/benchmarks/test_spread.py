"""Statistics over seeds: by hand, and what may be said of a difference."""

from __future__ import annotations

import math

import pytest

from talkstream.benchmarks.spread import difference, spread


def test_mean_and_sample_deviation():
    found = spread([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.deviation == pytest.approx(math.sqrt((16 + 1 + 25) / 9 / 2))
    assert found.text(2) == "2.33 ± 1.53"
    assert spread([0.5]).text(3) == "0.500"
    with pytest.raises(ValueError, match="give at least one"):
        spread([])


def test_the_error_of_a_difference_is_that_of_two_means():
    found = difference([2.0, 4.0], [1.0, 1.5, 2.0], goal="high")
    assert found.gain == pytest.approx(1.5)
    assert found.error == pytest.approx(math.sqrt(2.0 / 2 + 0.25 / 3))


@pytest.mark.parametrize(
    ("full", "without", "goal", "verdict"),
    [
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.82], "high", "helps"),
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.82], "low", "hurts"),
        ([0.90, 0.80, 0.70], [0.75, 0.85, 0.74], "high", "does not help here"),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], "low", "does not help here"),
        ([1.1, 1.0, 0.9], [1.5, 1.5, 1.6], "one", "helps"),
        ([0.5], [0.1, 0.1, 0.1], "high", "one seed"),
    ],
)
def test_only_a_difference_beyond_its_spread_counts(full, without, goal, verdict):
    assert difference(full, without, goal=goal).verdict == verdict
