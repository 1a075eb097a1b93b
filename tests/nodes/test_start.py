"""What the pack does to ComfyUI's start: seconds, modules, words."""

from __future__ import annotations

import re

import pytest

from talkstream.benchmarks import import_time
from talkstream.devtools.demo import COLOURS

pytestmark = pytest.mark.host
HEAVY = {"networks", "audio", "samplers", "streaming", "media", "model_loaders", "training"}


@pytest.fixture(scope="module")
def start_log(host_server) -> list[str]:
    """The server's log until it is ready, without colours."""
    log = COLOURS.sub("", host_server.log.read_text("utf-8", errors="replace"))
    return log.split("Starting server")[0].splitlines()


def test_host_loads_us_and_says_nothing_else(start_log):
    lines = [line for line in start_log if "TalkStream" in line]
    assert len(lines) == 1
    assert re.search(r"[\d.]+ seconds: \S*ComfyUI-TalkStream$", lines[0])  # not "seconds (IMPORT FAILED):"


def test_import_adds_less_than_a_tenth_of_a_second_and_no_engine(monkeypatch, comfyui_path):
    """The host's own line rounds to a tenth, so the clock is read here; the best of three, for busy machines."""
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui_path))
    runs = []
    while len(runs) < 3 and all(run["seconds"] >= 0.1 for run in runs):
        runs.append(import_time.measure())
    assert all(run["loaded"] for run in runs)
    assert min(run["seconds"] for run in runs) < 0.1
    assert not {name.split(".")[0] for name in runs[0]["ours"]} & HEAVY
    assert runs[0]["others"] == []
