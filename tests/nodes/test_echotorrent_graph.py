"""EchoTorrent through the graph: its profile, its caches where they are put, the take, and what is refused."""

from __future__ import annotations

import pytest

from talkstream.tests.nodes.client import changed, probe, run
from talkstream.tests.nodes.graphs import DECODE, SAVE, STREAM, flashtalk, node

pytestmark = pytest.mark.host

AS_TRAINED = {
    "window": -1,
    "sink": -1,
    "sink_rule": "as trained",
    "dtype": "as trained",
    "placement": "as trained",
}


@pytest.fixture(scope="module")
def server(host_server, model_files):
    return host_server


def echotorrent(seconds: float) -> dict[str, dict]:
    """Load Student .. Save Stream with the profile in the file."""
    return changed(flashtalk(seconds=seconds), n1={"student": "echotorrent_14b.safetensors"})


def compared(
    graph: dict[str, dict], number: str, *, frames: int, speech: str = "4", **cache: str
) -> dict[str, dict]:
    """Another stream of the same things with another cache or voice, and how far its first frames are off."""
    stream = changed(graph, **{f"n{STREAM}": {"speech": [speech, 0], "cache": [f"{number}1", 0]}})[STREAM]
    return {
        f"{number}1": node("TalkStreamKVCache", **{**AS_TRAINED, **cache}),
        f"{number}2": stream,
        f"{number}3": node("TalkStreamDecodeStream", stream=[f"{number}2", 0], vae=["2", 0]),
        f"{number}4": node("TalkStreamCollectFrames", frames=[f"{number}3", 0], start=0, limit=frames),
        f"{number}5": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=frames),
        f"{number}6": node("TestDifference", a=[f"{number}4", 0], b=[f"{number}5", 0]),
    }


def test_from_voice_to_film(server):
    """38 frames in chunks of 13 and 16; the past in main memory changes nothing, in eight bits a little.

    A limit on the voice gives the first frames of the whole.
    """
    graph = echotorrent(1.5)
    limited = changed(graph, n4={"limit_seconds": 0.8})["4"]
    asked = graph | {
        "19": limited,
        **compared(graph, "2", frames=38, placement="main memory"),
        **compared(graph, "3", frames=38, dtype="8 bit"),
        **compared(graph, "4", frames=20, speech="19"),
    }
    result = run(server, asked)
    assert result.error == ""
    assert "profile echotorrent: the file's own metadata" in result.outputs["1"]["text"][0]
    assert "1.50 s → 38 frames at 25 fps → 3 chunks" in result.outputs["4"]["text"][0]
    made = probe(result.video(SAVE, server))
    assert (made.frames, float(made.fps), made.size, made.sample_rate) == (38, 25.0, (32, 32), 16000)
    assert result.outputs["26"]["text"][0] == "(38, 32, 32, 3) 0.0"
    assert result.outputs["46"]["text"][0] == "(20, 32, 32, 3) 0.0"
    assert 0 < float(result.outputs["36"]["text"][0].rpartition(" ")[2]) < 0.1


def test_the_choice_makes_another_student_of_a_whole_file(server):
    """A file without metadata is FlashTalk unless it is called EchoTorrent; chunk 0 has 13 frames then."""
    graph = changed(flashtalk(seconds=0.5), n1={"profile": "echotorrent"})
    result = run(server, graph)
    assert result.error == ""
    assert "profile echotorrent: chosen by you" in result.outputs["1"]["text"][0]
    assert "13 frames at 25 fps → 1 chunk" in result.outputs["4"]["text"][0]


def test_a_window_too_short_is_refused(server):
    graph = echotorrent(0.5) | {"13": node("TalkStreamKVCache", **{**AS_TRAINED, "window": 4})}
    result = run(server, changed(graph, **{f"n{STREAM}": {"cache": ["13", 0]}}))
    assert "too short for a sink of 1 and a chunk of 4; make it at least 5" in result.error
