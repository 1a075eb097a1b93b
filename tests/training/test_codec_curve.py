"""The codec curve: wider codecs and larger pictures take longer, and a table that is there is not measured again."""

from __future__ import annotations

import pytest
import torch

from talkstream.benchmarks import codec_curve
from talkstream.benchmarks.codec_curve import Point, frame_ms, measure, plots, report
from talkstream.benchmarks.records import read_records, write_records
from talkstream.training.trainer import Budget


def test_time_grows_with_width_and_side():
    small, wide, large = (
        frame_ms(dim, side, torch.float32, timed=3) for dim, side in ((4, 64), (32, 64), (4, 160))
    )
    assert 0 < small < wide and small < large


def test_points_survive_the_file_and_finished_ones_are_kept(tmp_path, monkeypatch):
    table = tmp_path / "curve.csv"
    done = Point(4, 32, 1.5, 3.25, 0.0)
    trained = Point(8, 32, 2.0, 4.0, 60.0, 27.5, 24.25)
    write_records(table, Point, [done, trained])
    assert read_records(table, Point) == [done, trained]
    timed = []
    monkeypatch.setattr(codec_curve, "frame_ms", lambda dim, side, dtype: timed.append((dim, side)) or 5.0)
    points = measure([4], [32, 48], budget=None, clips=1, runs=tmp_path, table=table)
    assert points == [done, Point(4, 48, 5.0, 5.0, 0.0)]
    assert timed == [(4, 48)] * 2
    assert read_records(table, Point) == [done, trained, points[1]]


@pytest.mark.parametrize("point", [Point(4, 32, 2.0, 4.0), Point(4, 32, 2.0, 4.0, 60.0, 27.5, 24.25)])
def test_the_page_gives_frames_per_second(point):
    row = report([point], "command").splitlines()[-1]
    assert "| 4 | 32 | 2.00 | 500 | 4.00 | 250 |" in row
    assert ("60 s | 27.50 | 24.25" in row) == (point.psnr is not None)


def test_a_training_counts_steps_or_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(codec_curve, "frame_ms", lambda dim, side, dtype: 5.0)
    budgets = []
    monkeypatch.setattr(
        codec_curve,
        "trained_psnr",
        lambda *point, budget, **_: budgets.append(budget) or {"psnr": 20.0 + budget.steps},
    )
    for budget in (Budget(seconds=3.0), Budget(steps=7), Budget(steps=7)):
        [point] = measure([4], [32], budget=budget, clips=1, runs=tmp_path, table=tmp_path / "curve.csv")
        assert point.psnr == 20.0 + budget.steps
    assert budgets == [Budget(seconds=3.0), Budget(steps=7)]
    assert "| 7 steps | 27.00 |" in report([point], "command")


def test_plots_have_a_line_per_side_and_quality_where_it_is_known():
    timed = [Point(8, 32, 1.0, 2.0), Point(4, 32, 0.5, 1.0), Point(4, 64, 3.0, 6.0)]
    [decoding] = plots(timed)
    assert [curve.points for curve in decoding.curves] == [[(4, 0.5), (8, 1.0)], [(4, 3.0)]]
    _, quality = plots([*timed, Point(16, 64, 5.0, 9.0, 60.0, 27.5, 24.25)])
    assert [curve.points for curve in quality.curves] == [[], [(5.0, 27.5)]]
