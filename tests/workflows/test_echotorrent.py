"""EchoTorrent's workflow runs through a real ComfyUI with a tiny checkpoint of the true key layout."""

from __future__ import annotations

from fractions import Fraction

import pytest

from talkstream.tests.nodes.client import changed, probe, run
from talkstream.tests.nodes.graphs import node
from talkstream.tests.workflows.graphs import read_api

pytestmark = pytest.mark.host

LOADERS = ("CLIPLoader", "CLIPVisionLoader")
STAND_INS = {
    "CLIPTextEncode": node("TestTextRows", width=16),
    "CLIPVisionEncode": node("TestVisionTokens", width=1280),
    "LoadImage": node("EmptyImage", width=40, height=48, batch_size=1, color=0x804020),
    "LoadAudio": node("TestVoice", seconds=1.0, seed=3),
}


def test_it_runs_as_shipped_with_smaller_pictures(host_server, model_files):
    """Stand-ins for umT5-XXL, CLIP vision, the portrait and the voice; past in main memory, chunks of 13 and 16."""
    shipped = read_api("talkstream_echotorrent")
    graph = {
        key: STAND_INS.get(n["class_type"], n) for key, n in shipped.items() if n["class_type"] not in LOADERS
    }
    key = {n["class_type"]: k for k, n in graph.items()}
    small = {"width": 32, "height": 32}
    sizes = {f"n{key[name]}": small for name in ("ImageScale", "TalkStreamEncodeReference")}
    result = run(host_server, changed(graph, **sizes))
    assert result.error == ""
    found = probe(result.video(key["TalkStreamSaveStream"], host_server))
    assert (found.frames, found.fps, found.size) == (25, Fraction(25), (32, 32))
    assert (
        "profile echotorrent: the file's own metadata"
        in result.outputs[key["TalkStreamLoadStudent"]]["text"][0]
    )
    assert "2 chunks" in result.outputs[key["TalkStreamEncodeSpeech"]]["text"][0]
