"""Lip sync as a graph in a running host: the shipped video, a box by hand, a tiny random student."""

from __future__ import annotations

import re
from fractions import Fraction

import av
import numpy as np
import pytest

from talkstream.devtools.host import ROOT
from talkstream.tests.nodes.client import changed, probe, run
from talkstream.tests.nodes.graphs import node

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]

VIDEO = ROOT / "assets" / "videos" / "theo.mp4"
BOX = "75, 39, 171, 154"
SAVE = "11"


def graph(*, seconds: float) -> dict[str, dict]:
    """Example Video .. Save Stream, over a silent voice."""
    return {
        "1": node("TalkStreamLoadStudent", student="lip_sync.safetensors"),
        "2": node("VAELoader", vae_name="wan_2.1_vae.safetensors"),
        "3": node("TalkStreamExampleVideo", video="theo"),
        "4": node("EmptyAudio", duration=seconds, sample_rate=16000, channels=1),
        "5": node("TalkStreamEncodeSpeech", model=["1", 0], audio=["4", 0]),
        "6": node("TalkStreamTrackFace", video=["3", 0], box=BOX),
        "7": node("TalkStreamEncodeSourceVideo", model=["1", 0], vae=["2", 0], face=["6", 0]),
        "8": node(
            "TalkStreamStreamChunks",
            model=["1", 0],
            speech=["5", 0],
            reference=["7", 1],
            source=["7", 0],
            seed=1,
        ),
        "9": node("TalkStreamDecodeStream", stream=["8", 0], vae=["2", 0]),
        "10": node("TalkStreamPasteFace", frames=["9", 0]),
        SAVE: node("TalkStreamSaveStream", frames=["10", 0], filename_prefix="dubbed"),
    }


def shown(path, frames: int) -> np.ndarray:
    with av.open(str(path)) as file:
        decoded = file.decode(file.streams.video[0])
        return np.stack([next(decoded).to_ndarray(format="rgb24") for _ in range(frames)])


def test_the_file_is_the_video_with_another_mouth(host_server):
    """Its own size and rate, as long as the voice; what lies around the face is the video's."""
    result = run(host_server, graph(seconds=0.7))
    assert result.error == ""
    made = result.video(SAVE, host_server)
    found = probe(made)
    assert (found.frames, found.fps, found.size, found.sample_rate) == (21, Fraction(30), (320, 240), 16000)
    ours, theirs = (shown(path, 21).astype(int) for path in (made, VIDEO))
    difference = np.abs(ours - theirs).mean((0, 3))
    assert difference[:, :78].mean() < 2
    assert difference[:, 245:].mean() < 2
    assert difference[150:210, 120:200].mean() > 8
    assert result.outputs["10"]["text"] == ["320x240, 30 fps, 21 frames"]
    log = host_server.log.read_text("utf-8", errors="replace")
    assert re.search(r"memory \d+\.\d\d GB: weights \d+\.\d\d \+ KV cache \d+\.\d\d \+ VAE cache", log)


def test_what_does_not_belong_together_is_refused(host_server):
    missing = graph(seconds=0.4)
    del missing["8"]["inputs"]["source"]
    assert "connect Encode Source Video to source" in run(host_server, missing).error
    portrait = changed(graph(seconds=0.4), n1={"student": "tiny.safetensors"})
    assert "starts from a portrait; load a lip-sync student" in run(host_server, portrait).error
    unpasted = graph(seconds=0.4)
    unpasted[SAVE]["inputs"]["frames"] = ["9", 0]
    result = run(host_server, unpasted)
    assert probe(result.video(SAVE, host_server)).size == (32, 32)
