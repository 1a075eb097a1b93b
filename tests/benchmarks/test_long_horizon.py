"""A long stream of the shipped Mini: marks are means of what came before them, and an interrupted run goes on."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.benchmarks import held_out, long_horizon
from talkstream.benchmarks.long_horizon import Window, marked, mean_of
from talkstream.benchmarks.records import read_records
from talkstream.tests.benchmarks.tiny_models import untrained_judges


def _windows(*ends: float, seconds: float = 5.0) -> list[Window]:
    return [Window(end - seconds, end, end / 100, None, 0.1, 0.2, 1.5, 0.9, 0.01, 12.0) for end in ends]


def test_a_mark_is_the_mean_of_twenty_seconds_before_it():
    windows = _windows(*range(5, 105, 5))
    found = marked(windows, [20, 100, 1000])
    assert [w.last for w in found[20]] == [5, 10, 15, 20] and list(found) == [20, 100]
    assert mean_of(found[100], "r_open") == pytest.approx(0.925)
    assert mean_of(found[100], "sync_c") is None


def test_a_short_stream_has_a_mark_too():
    assert [w.last for w in marked(_windows(2.0, seconds=2.0), [2])[2]] == [2.0]


def test_an_interrupted_stream_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    """Two seconds in windows of ten frames, at once and cut off in the fourth window: equal rows.

    The voice is silent in the second window, whose still mouth once was divided by; it has no correlation.
    """
    monkeypatch.setattr(held_out, "make_judges", untrained_judges)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    given = ["--marks", "1", "2", "--window-frames", "10", "--save-every", "2", "--dtype", "float32",
             "--runs", str(tmp_path / "runs"), "--out"]  # fmt: skip
    random = np.random.default_rng(0)
    mouth = random.random((50, 5)).astype(np.float32)
    mouth[10:20] = 0.0
    samples = random.standard_normal(50 * 640).astype(np.float32) / 10
    for folder in (whole, cut):
        folder.mkdir()
        np.savez(folder / "voice.npz", samples=samples, mouth=mouth)
    long_horizon.main([*given, str(whole)])
    judge, calls = long_horizon.judge, []

    def fail_once(*values: object) -> Window:
        calls.append(len(calls))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return judge(*values)

    monkeypatch.setattr(long_horizon, "judge", fail_once)
    with pytest.raises(KeyboardInterrupt):
        long_horizon.main([*given, str(cut)])
    long_horizon.main([*given, str(cut)])
    rows = [read_records(folder / "long_horizon.csv", Window) for folder in (whole, cut)]
    assert len(rows[0]) == 5 and len(calls) == 4 + 3
    assert rows[0] == rows[1]
    assert [w.r_open is None for w in rows[0]] == [False, True, False, False, False]
    page = (cut / "long_horizon.md").read_text(encoding="utf-8")
    assert "| 1 s |" in page and "| 2 s |" in page and "the reader finds r = " in page
    assert (cut / "long_horizon.jpg").stat().st_size > 1000 and (cut / "long_horizon.png").exists()
