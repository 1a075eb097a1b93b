"""What the pack does to ComfyUI's start, read from the host's own log."""

from __future__ import annotations

import re

import pytest

from talkstream.devtools.demo import COLOURS

pytestmark = pytest.mark.host


def log_after_start(host_server) -> str:
    return COLOURS.sub("", host_server.log.read_text("utf-8", errors="replace"))


def test_import_time_line_shows_less_than_a_tenth_of_a_second(host_server):
    """The host prints one decimal: 0.0 is below 0.05 s, 0.1 below 0.15 s."""
    found = re.search(
        r"([\d.]+) seconds(.*): \S*ComfyUI-TalkStream$", log_after_start(host_server), re.MULTILINE
    )
    assert found is not None
    assert float(found.group(1)) < 0.1
    assert found.group(2) == ""


def test_start_logs_nothing_else_about_us(host_server):
    lines = [line for line in log_after_start(host_server).splitlines() if "talkstream" in line.lower()]
    assert [line for line in lines if " seconds" not in line] == []
