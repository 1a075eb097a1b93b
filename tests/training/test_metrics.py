"""The table of a run: columns grow, a resumed run repeats nothing, and its plots show where the numbers are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from talkstream.training.metrics import add_row, columns, forget_after, read_rows
from talkstream.training.plots import (
    COLOURS,
    Curve,
    Plot,
    draw_plot,
    draw_sheet,
    plots_of_columns,
    tick_label,
    ticks,
)
from talkstream.training.trainer import Budget, time_left, train


def test_columns_grow_and_what_is_missing_stays_empty(tmp_path):
    table = tmp_path / "metrics.csv"
    add_row(table, {"step": 1, "train/loss": 0.5})
    add_row(table, {"step": 2, "held-out/loss": 0.25})
    assert table.read_text().splitlines() == ["step,train/loss,held-out/loss", "1,0.5,", "2,,0.25"]
    assert read_rows(table) == [{"step": 1.0, "train/loss": 0.5}, {"step": 2.0, "held-out/loss": 0.25}]
    grown = columns(read_rows(table))
    assert grown["step"] == [1.0, 2.0]
    assert grown["train/loss"][0] == 0.5 and math.isnan(grown["train/loss"][1])


def test_numbers_come_back_as_they_were(tmp_path):
    value = 0.1 + 0.2
    add_row(tmp_path / "m.csv", {"step": 3, "x": value})
    assert read_rows(tmp_path / "m.csv")[0]["x"] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n1,x\n", "line 2 holds something else"), ("a\n1\n1,2\n", "line 3 has more cells")],
)
def test_a_damaged_table_is_named(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "m.csv")


def test_later_rows_are_forgotten(tmp_path):
    table = tmp_path / "m.csv"
    forget_after(table, 5)
    assert not table.exists()
    for step in (2, 4, 6):
        add_row(table, {"step": step})
    forget_after(table, 4)
    assert columns(read_rows(table)) == {"step": [2.0, 4.0]}


class _Falling:
    """A stage whose loss is 1 / (step + 1)."""

    optimisers = ()

    def step(self, step, progress):
        return {"loss": 1 / (step + 1)}

    def evaluate(self):
        return {"loss": 2.0}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_a_run_writes_its_table_and_its_plots(tmp_path):
    """A report that was written after the checkpoint that a run goes on from is written again, not twice."""
    budget = Budget(steps=4, log_seconds=1e-9)
    train(_Falling(), budget, tmp_path, stop_after_steps=2)
    add_row(tmp_path / "metrics.csv", {"step": 3, "train/loss": 0.0})
    train(_Falling(), budget, tmp_path)
    rows = read_rows(tmp_path / "metrics.csv")
    losses = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    assert losses == [(step, pytest.approx(1 / step)) for step in (1, 2, 3, 4)]
    assert [row["step"] for row in rows if "held-out/loss" in row] == [2, 4]
    assert (tmp_path / "metrics.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "metrics.tmp").exists()


def test_time_left_at_the_pace_so_far():
    assert time_left(60.0, 0.5) == "60 s left"
    assert time_left(600.0, 0.25) == "30 min left"
    assert time_left(3600.0, 0.1) == "9.0 h left"
    assert time_left(0.0, 0.0) == "time left unknown"


def test_ticks_are_round_and_inside():
    assert ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(-3.0, 17.0) == pytest.approx([0, 5, 10, 15])
    assert ticks(0.00012, 0.00031) == pytest.approx([0.00015, 0.0002, 0.00025, 0.0003])
    assert [tick_label(v, 5000) for v in (0, 5000, 20000)] == ["0", "5k", "20k"]
    assert tick_label(0.25, 0.05) == "0.25" and tick_label(-0.0, 1) == "0"


def _pixels(image, colour):
    """Rows and columns of a picture that have exactly a curve's colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.nonzero((np.asarray(image) == wanted).all(axis=-1))


def test_a_curve_stands_where_its_numbers_are():
    """A rising line runs from the lower left to the upper right; a second curve above it stays above it."""
    x = [0, 1, 2, 3, 4]
    rising = Curve("rising", x, [0, 1, math.nan, 3, 4])
    image = draw_plot(Plot("title", "x", "y", (rising, Curve("high", x, [8] * 5))), width=400, height=300)
    assert image.size == (400, 300)
    rows, across = _pixels(image, COLOURS[0])
    line = across < 300  # left of the legend
    assert np.corrcoef(across[line], rows[line])[0, 1] < -0.99
    assert _pixels(image, COLOURS[1])[0].min() < rows.min()


def test_a_plot_of_one_point_and_of_none_can_be_drawn():
    rows, _ = _pixels(draw_plot(Plot("", "x", "y", (Curve("one", [1], [2]),))), COLOURS[0])
    assert len(rows) > 10
    empty = draw_plot(Plot("", "x", "y", (Curve("none", [1], [math.nan]),)))
    assert len(_pixels(empty, COLOURS[0])[0]) == 0


def test_columns_of_one_quantity_share_a_plot():
    table = {"step": [1, 2], "train/a": [1, 2], "held-out/a": [math.nan, 3], "train/b": [4, 5]}
    plots = plots_of_columns(table, x="step")
    assert [(plot.title, [curve.label for curve in plot.curves]) for plot in plots] == [
        ("a", ["train", "held-out"]),
        ("b", ["train"]),
    ]
    assert draw_sheet(plots, width=200, height=150).size == (400, 150)


def test_curves_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="2 x and 1 y"):
        Curve("odd", [1, 2], [1])
    with pytest.raises(ValueError, match="logarithmic"):
        Plot("p", "x", "y", (Curve("c", [1], [0.0]),), log_y=True)
