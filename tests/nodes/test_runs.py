"""Graphs run to their end in a real ComfyUI: length, sound, metadata, what is run again."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from talkstream.audio.rates import frame_count
from talkstream.tests.nodes.client import changed, probe, run
from talkstream.tests.nodes.graphs import DECODE, SAVE, STREAM, node, tiny

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]


@pytest.mark.parametrize(
    ("seconds", "sample_rate", "channels"),
    [
        (0.3, 16000, 1),
        (1.0, 44100, 2),
        (6.37, 22050, 1),
        (6.37, 37800, 2),
        (61.03, 48000, 2),
        (0.001, 8000, 1),
    ],
)
def test_the_video_is_as_long_as_the_voice(host_server, seconds, sample_rate, channels):
    """The length rule, and the user's own sound: rate, channels, every sample that the pictures cover."""
    result = run(host_server, tiny(seconds=seconds, sample_rate=sample_rate, channels=channels))
    assert result.error == ""
    found = probe(result.video(SAVE, host_server))
    samples = round(seconds * sample_rate)
    assert found.frames == frame_count(samples, sample_rate, fps_num=25)
    assert (found.sample_rate, found.channels, found.fps) == (sample_rate, channels, Fraction(25))
    heard = min(samples, found.frames * sample_rate // 25) if found.frames > 1 else samples
    assert found.samples >= heard
    assert found.samples - heard < 2 * 1024  # the encoder fills its last block


def test_workflow_and_prompt_are_in_the_file(host_server):
    graph, workflow = tiny(seconds=0.2), {"nodes": [], "extra": {"name": "mine"}}
    result = run(host_server, changed(graph, n8={"filename_prefix": "meta"}), workflow=workflow)
    found = probe(result.video(SAVE, host_server)).metadata
    assert json.loads(found["workflow"]) == workflow
    assert json.loads(found["prompt"])[STREAM]["class_type"] == "TalkStreamStreamChunks"


def test_nodes_say_what_they_recognised(host_server):
    result = run(host_server, tiny(seconds=6.37))
    assert "profile tiny: the file's own metadata" in result.outputs["1"]["text"][0]
    assert result.outputs["4"]["text"][0].startswith("6.37 s")
    assert "159 frames at 25 fps" in result.outputs["4"]["text"][0]
    assert "silent" in result.outputs["4"]["text"][0]
    assert result.outputs["5"]["images"][0]["type"] == "temp"


def test_collected_frames_equal_the_hosts_own_decode_of_the_collected_latent(host_server):
    """Collect Frames' IMAGE is what Load VAE and VAE Decode make of its LATENT, up to rounding."""
    graph = tiny(seconds=1.0)
    graph[DECODE]["inputs"]["precision"] = "as loaded"
    del graph[SAVE]
    graph |= {
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=21),
        "21": node("VAEDecode", samples=["20", 2], vae=["2", 0]),
        "22": node("TestDifference", a=["20", 0], b=["21", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    shape, difference = result.outputs["22"]["text"][0].rsplit(" ", 1)
    assert shape == "(21, 32, 32, 3)"
    assert 0 <= float(difference) < 1e-4


def test_a_limit_gives_the_first_frames_of_the_whole(host_server):
    """Promise: a duration limit on the same voice changes nothing of what it shows."""
    graph = tiny(seconds=3.0)
    del graph[SAVE]
    graph |= {
        "14": node("TalkStreamEncodeSpeech", model=["1", 0], audio=["9", 0], limit_seconds=0.84),
        "16": node("TalkStreamStreamChunks", model=["1", 0], speech=["14", 0], reference=["5", 0], seed=1),
        "17": node("TalkStreamDecodeStream", stream=["16", 0], vae=["2", 0]),
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=21),
        "21": node("TalkStreamCollectFrames", frames=["17", 0], start=0, limit=500),
        "22": node("TestDifference", a=["20", 0], b=["21", 0]),
    }
    assert run(host_server, graph).outputs["22"]["text"][0] == "(21, 32, 32, 3) 0.0"


def test_schedule_and_cache_nodes_as_placed_change_nothing(host_server):
    graph = tiny(seconds=1.0)
    del graph[SAVE]
    graph |= {
        "10": node("TalkStreamStepSchedule", preset="as trained", shift=5.0, model=["1", 0]),
        "11": node(
            "TalkStreamKVCache", window=-1, sink=-1, sink_rule="as trained", dtype="as trained", placement="as trained"
        ),
        "16": node(
            "TalkStreamStreamChunks", model=["1", 0], speech=["4", 0], reference=["5", 0], seed=1, sigmas=["10", 0],
            cache=["11", 0],
        ),
        "17": node("TalkStreamDecodeStream", stream=["16", 0], vae=["2", 0]),
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=25),
        "21": node("TalkStreamCollectFrames", frames=["17", 0], start=0, limit=25),
        "22": node("TestDifference", a=["20", 0], b=["21", 0]),
    }  # fmt: skip
    result = run(host_server, graph)
    assert result.error == ""
    assert result.outputs["22"]["text"][0] == "(25, 32, 32, 3) 0.0"
    assert result.outputs["10"]["images"]


@pytest.mark.parametrize(
    ("dtype", "placement", "least", "most"),
    [("as trained", "main memory", 0.0, 0.0), ("8 bit", "as trained", 1e-7, 0.05)],
)
def test_where_and_how_the_cache_keeps_the_past(host_server, dtype, placement, least, most):
    """Placement moves keys and values, not numbers; eight bits change them a little. Pictures in [0, 1]."""
    graph = tiny(seconds=2.0)
    del graph[SAVE]
    graph |= {
        "11": node(
            "TalkStreamKVCache", window=-1, sink=-1, sink_rule="as trained", dtype=dtype, placement=placement
        ),
        "16": node(
            "TalkStreamStreamChunks", model=["1", 0], speech=["4", 0], reference=["5", 0], seed=1, cache=["11", 0]
        ),
        "17": node("TalkStreamDecodeStream", stream=["16", 0], vae=["2", 0]),
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=50),
        "21": node("TalkStreamCollectFrames", frames=["17", 0], start=0, limit=50),
        "22": node("TestDifference", a=["20", 0], b=["21", 0]),
    }  # fmt: skip
    size, _, difference = run(host_server, graph).outputs["22"]["text"][0].rpartition(" ")
    assert size == "(50, 32, 32, 3)" and least <= float(difference) <= most
