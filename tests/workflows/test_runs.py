"""The shipped workflows run through a real ComfyUI."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from talkstream.audio.rates import frame_count
from talkstream.tests.nodes.client import changed, probe, run
from talkstream.tests.nodes.graphs import node
from talkstream.tests.workflows.graphs import WORKFLOWS, read_api

pytestmark = pytest.mark.host

ASSETS = WORKFLOWS.parent / "assets"
VOICE_SECONDS, VOICE_RATE = 1.0, 22050


@pytest.fixture(scope="module")
def user_files(host_server) -> None:
    """The picture and the voices that the workflows name, in ComfyUI's input folder."""
    folder = host_server.base / "input"
    pixels = np.linspace(0, 255, 96 * 64 * 3).astype(np.uint8).reshape(96, 64, 3)
    write_png(folder / "example.png", pixels)
    times = np.arange(round(VOICE_SECONDS * VOICE_RATE)) / VOICE_RATE
    samples = (8000 * np.sin(2 * np.pi * 220 * times) * np.sin(2 * np.pi * 3 * times)).astype("<i2")
    for name in ("voice.wav", "voice_2.wav"):
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, VOICE_RATE, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())


def write_png(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def test_quickstart_speaks(host_server):
    """The Mini as shipped, with a shipped portrait and sentence."""
    graph = read_api("talkstream_quickstart")
    result = run(host_server, graph)
    assert result.error == ""
    examples = next(n for n in graph.values() if n["class_type"] == "TalkStreamExamples")["inputs"]
    with wave.open(str(ASSETS / "sentences" / f"{examples['sentence']}.wav")) as file:
        samples, rate = file.getnframes(), file.getframerate()
    save = next(key for key, n in graph.items() if n["class_type"] == "TalkStreamSaveStream")
    found = probe(result.video(save, host_server))
    assert found.fps == Fraction(25)
    assert found.frames == frame_count(samples, rate, fps_num=25)
    assert found.sample_rate == rate


def pictures(path: Path, places: list[int]) -> np.ndarray:
    """Frames of a video by their numbers, (F, H, W, 3)."""
    with av.open(str(path)) as file:
        shown = enumerate(file.decode(file.streams.video[0]))
        return np.stack([frame.to_ndarray(format="rgb24") for place, frame in shown if place in places])


def test_lipsync_gives_the_example_video_another_voice(host_server):
    """The Mini's lip-sync sister as shipped: the video's size and rate, the voice's length, another mouth alone.

    Frames 0 to 119 go forward, 120 to 237 back to frame 1.
    """
    graph = read_api("talkstream_lipsync")
    result = run(host_server, graph)
    assert result.error == ""
    examples = next(n for n in graph.values() if n["class_type"] == "TalkStreamExamples")["inputs"]
    with wave.open(str(ASSETS / "sentences" / f"{examples['sentence']}.wav")) as file:
        samples, rate = file.getnframes(), file.getframerate()
    save = next(key for key, n in graph.items() if n["class_type"] == "TalkStreamSaveStream")
    made = result.video(save, host_server)
    found = probe(made)
    assert (found.fps, found.size, found.sample_rate) == (Fraction(30), (320, 240), rate)
    assert found.frames == frame_count(samples, rate, fps_num=30)
    ours = pictures(made, [20, 60, 119, 178, 218]).astype(int)
    theirs = pictures(ASSETS / "videos" / "theo.mp4", [20, 60, 119]).astype(int)[[0, 1, 2, 1, 0]]
    difference = np.abs(ours - theirs).mean((0, 3))
    assert difference[:, :78].mean() < 2
    assert difference[:100].mean() < 2
    assert 3 < difference[165:200, 135:190].mean() < 60


def test_livetalk_runs_with_a_tiny_checkpoint_of_the_true_key_layout(host_server, model_files, user_files):
    """As shipped, but smaller pictures, and a stand-in for umT5-XXL, whose smallest form takes 11 GB."""
    graph = read_api("talkstream_livetalk")
    text = next(key for key, n in graph.items() if n["class_type"] == "CLIPTextEncode")
    del graph[graph[text]["inputs"]["clip"][0]]
    graph[text] = node("TestTextRows", width=4096)
    reference = next(key for key, n in graph.items() if n["class_type"] == "TalkStreamEncodeReference")
    result = run(host_server, changed(graph, **{f"n{reference}": {"width": 128, "height": 96}}))
    assert result.error == ""
    save = next(key for key, n in graph.items() if n["class_type"] == "TalkStreamSaveStream")
    found = probe(result.video(save, host_server))
    assert (found.frames, found.fps, found.size) == (16, Fraction(16), (128, 96))
    assert found.sample_rate == VOICE_RATE
    load = next(key for key, n in graph.items() if n["class_type"] == "TalkStreamLoadStudent")
    assert "profile livetalk: its signature" in result.outputs[load]["text"][0]


def with_stand_ins(graph: dict[str, dict]) -> dict[str, dict]:
    """Tiny pictures, and stand-ins for umT5-XXL and clip_vision_h; every other node as shipped."""
    kinds = {"CLIPTextEncode": ("TestTextRows", 16), "CLIPVisionEncode": ("TestVisionTokens", 1280)}
    loaders = ("CLIPLoader", "CLIPVisionLoader")
    small = {key: n for key, n in graph.items() if n["class_type"] not in loaders}
    for key, n in small.items():
        if n["class_type"] in kinds:
            name, width = kinds[n["class_type"]]
            small[key] = node(name, width=width)
        if n["class_type"] in ("ImageScale", "TalkStreamEncodeReference"):
            n["inputs"] |= {"width": 32, "height": 32}
    return small


def key_of(graph: dict[str, dict], class_type: str) -> str:
    return next(key for key, n in graph.items() if n["class_type"] == class_type)


def test_flashtalk_runs_with_tiny_shards_of_the_true_key_layout(host_server, model_files, user_files):
    """As shipped: four shards, four steps, 28 frames a chunk; the last partial chunk is trimmed."""
    graph = with_stand_ins(read_api("talkstream_flashtalk"))
    result = run(host_server, graph)
    assert result.error == ""
    found = probe(result.video(key_of(graph, "TalkStreamSaveStream"), host_server))
    assert (found.frames, found.fps, found.size) == (25, Fraction(25), (32, 32))
    loaded = result.outputs[key_of(graph, "TalkStreamLoadStudent")]["text"][0]
    assert "from 4 files" in loaded and "profile flashtalk: its form" in loaded


def test_two_speakers_run_with_a_tiny_pair_of_the_true_key_layout(host_server, model_files, user_files):
    """As shipped, with two steps instead of 40: one voice after the other, masks, guidance by text and audio."""
    graph = with_stand_ins(read_api("talkstream_infinitetalk_two_speakers"))
    steps = key_of(graph, "TalkStreamStepSchedule")
    result = run(host_server, changed(graph, **{f"n{steps}": {"preset": "custom list", "custom": "1, 0.5"}}))
    assert result.error == ""
    found = probe(result.video(key_of(graph, "TalkStreamSaveStream"), host_server))
    assert (found.frames, found.fps, found.size) == (50, Fraction(25), (32, 32))
    told = result.outputs[key_of(graph, "TalkStreamEncodeSpeakers")]["text"][0]
    assert "50 frames at 25 fps" in told and "speaker 2: 1.00 s, silent for the other 1.00 s" in told
    loaded = result.outputs[key_of(graph, "TalkStreamLoadStudent")]["text"][0]
    assert "from 2 files" in loaded and "profile infinitetalk: its form" in loaded
