"""The trade-off of guidance: where the band lies, what is outside a mouth, and a run on a tiny teacher."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.benchmarks import held_out, trade_off
from talkstream.benchmarks.records import read_records
from talkstream.benchmarks.trade_off import Row, find_band, outside_psnr
from talkstream.tests.benchmarks.tiny_models import (
    SIDE,
    SMALL,
    noise_clips,
    untrained_judges,
    write_codec,
    write_stage,
)
from talkstream.training.world.clips import Clip

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning", "ignore:The given NumPy array")


def test_the_band_is_the_unbroken_run_around_the_largest_gain():
    levels = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.2]
    gains = [0.0, 0.11, 0.2, 0.1, 0.04, 0.15, -0.1]
    band = find_band(levels, gains)
    assert (band.low, band.high, band.peak, band.gain) == (0.7, 0.9, 0.8, 0.2)
    assert find_band(levels[::-1], gains[::-1]) == band


def test_no_gain_is_no_band():
    assert find_band([0.1, 0.5], [0.0, -0.2]) is None


def test_the_psnr_outside_leaves_the_mouths_out():
    """A picture that differs by 8 everywhere, and by 100 in a box around each frame's mouth."""
    drawn = np.full((3, 16, 16, 3), 100, np.uint8)
    place = np.array([[0.5, 0.75, 0.25, 0.125]] * 3, np.float32)
    place[2, 0] = 0.25
    made = drawn + 8
    made[:2, 10:14, 4:12] = 200
    made[2, 10:14, 0:8] = 200
    clip = Clip(drawn, np.zeros(1), np.zeros((3, 5)), np.zeros((3, 1)), place, "speaking")
    assert outside_psnr(made, clip) == pytest.approx(10 * np.log10(255**2 / 64))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command on a tiny teacher and clips of noise."""
    monkeypatch.setattr(trade_off, "NETWORK", SMALL)
    monkeypatch.setattr(trade_off, "STEPS", 10)
    monkeypatch.setattr(trade_off, "held_out_clips", noise_clips)
    monkeypatch.setattr(held_out, "make_judges", untrained_judges)
    teacher, codec = write_stage(tmp_path / "teacher"), write_codec(tmp_path / "codec.safetensors")
    return [
        "--teacher", str(teacher), "--codec", str(codec), "--side", str(SIDE), "--latents", "5", "--per-domain", "1",
        "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def test_the_command_writes_table_plots_and_page_and_goes_on(command, tmp_path):
    """Two grid steps, then a third: rows that are there are not made again."""
    out = tmp_path / "out"
    trade_off.main([*command, "--steps", "0", "6"])
    rows = read_records(out / "trade_off.csv", Row)
    assert [row.place for row in rows] == [
        ("trajectory", 0, 1.0, 1.0), ("trajectory", 0, 1.0, 4.5), ("trajectory", 6, 1.0, 1.0),
        ("trajectory", 6, 1.0, 4.5), ("two_steps", 6, 1.0, 1.0), ("two_steps", 6, 1.0, 4.5),
        ("two_steps", 6, 4.5, 1.0), ("two_steps", 6, 4.5, 4.5),
    ]  # fmt: skip
    assert rows[2].level == pytest.approx(0.76923, abs=1e-5)
    page = (out / "trade_off.md").read_text(encoding="utf-8")
    assert page.count("\n| 6 |") == 6 and "10 Euler steps, shift 5, guidance 4.5" in page
    assert "In the drawn clips themselves the judges find r = " in page
    assert (out / "trajectory.png").stat().st_size > 1000 and (out / "two_steps.png").stat().st_size > 1000
    trade_off.main([*command, "--steps", "0", "6", "9"])
    assert read_records(out / "trade_off.csv", Row)[:8] == rows
    with pytest.raises(
        FileNotFoundError, match="nowhere holds no trained stage: no recipe that ships leaves it"
    ):
        trade_off.main([*command, "--teacher", str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="scale was 4.5, now 2.0"):
        trade_off.main([*command, "--scale", "2"])
