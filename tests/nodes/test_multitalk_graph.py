"""Students of the MultiTalk family through the graph: the plan, the film, the take, and what is refused."""

from __future__ import annotations

import pytest

from talkstream.tests.nodes.client import probe, run
from talkstream.tests.nodes.graphs import DECODE, SAVE, flashtalk, node

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def server(host_server, model_files):
    return host_server


def text_of(result, name: str) -> str:
    return result.outputs[name]["text"][0]


def test_flashtalk_from_voice_to_film(server):
    """38 frames in chunks of 28, the last one trimmed; a second pull and another node replay the take."""
    graph = flashtalk(seconds=1.5) | {
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=20, limit=12),
        "21": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=20, limit=12),
        "22": node("TestDifference", a=["20", 0], b=["21", 0]),
    }
    result = run(server, graph)
    assert result.error == ""
    assert "1.50 s → 38 frames at 25 fps → 2 chunks" in text_of(result, "4")
    loaded = text_of(result, "1")
    assert "a MultiTalk student (width 128, 2 layers)" in loaded and "profile flashtalk: its form" in loaded
    made = probe(result.video(SAVE, server))
    assert (made.frames, float(made.fps), made.size, made.sample_rate) == (38, 25.0, (32, 32), 16000)
    assert text_of(result, "22") == "(12, 32, 32, 3) 0.0"
