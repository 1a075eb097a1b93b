"""kill -9 in the middle of a run of the Mini, in a ComfyUI of its own."""

from __future__ import annotations

import sys

import pytest

from talkstream.benchmarks import kill_runs

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL"),
]


def test_what_was_finished_plays_and_the_run_goes_on(comfyui_path, tmp_path, monkeypatch):
    """Three kills, each in the run that goes on behind the one before; the benchmark of that name does thirty."""
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui_path))
    result = kill_runs.measure(tmp_path, kills=3, seconds=3.0, seed=4)
    assert result["frames"] == 75
    assert len(result["kills"]) >= 1
    assert result["all_play"], result
    assert result["resumed_is_identical"], result
    assert result["left_in_the_user_folder"] == []
