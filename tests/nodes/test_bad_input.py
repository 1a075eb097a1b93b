"""Inputs that lose work elsewhere: some are refused in one sentence, some simply work; the host goes on after each."""

from __future__ import annotations

import json
import urllib.error

import pytest

from talkstream.benchmarks.batch import run_batch
from talkstream.tests.nodes.client import changed, probe, run
from talkstream.tests.nodes.graphs import DECODE, SAVE, STREAM, node, tiny

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]


def with_node(graph: dict, key: str, class_type: str, **inputs) -> dict:
    return {**graph, key: node(class_type, **inputs)}


REFUSED = {
    "NaN in the voice": (
        with_node(tiny(), "9", "TestBrokenAudio"), "4", "NaN or infinite samples, the first at 0.500 s"
    ),
    "a MODEL that is no student": (
        with_node(tiny(), "1", "UNETLoader", unet_name="livetalk_1.3b.safetensors", weight_dtype="default"),
        "45",  # whichever of the two the host runs first
        "a MODEL without a student profile",
    ),
    "rising SIGMAS of another node": (
        with_node(changed(tiny(), n6={"sigmas": ["12", 0]}), "12", "ManualSigmas", sigmas="0.5, 0.8, 0"),
        STREAM,
        "expected strictly falling levels",
    ),
    "SIGMAS of another kind of model": (
        with_node(changed(tiny(), n6={"sigmas": ["12", 0]}), "12", "ManualSigmas", sigmas="14.6, 2.1, 0"),
        STREAM,
        "this student is a flow model",
    ),
    "an absolute file name": (changed(tiny(), n8={"filename_prefix": "/tmp/outside"}), SAVE, "expected a place inside"),
    "masks for a student of one speaker": (
        with_node(
            changed(tiny(), n5={"speaker_masks": ["12", 0]}), "12", "SolidMask", value=1.0, width=40, height=48
        ),
        "5",
        "hears one voice and takes no speaker masks; disconnect speaker_masks",
    ),
    "a batch of two pictures": (changed(tiny(), n3={"batch_size": 2}), "5", "got 2 pictures, expected one portrait"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence_at_the_right_node(case, host_server):
    graph, key, words = REFUSED[case]
    result = run(host_server, graph)
    assert words in result.error
    assert len(result.error.splitlines()) == 1
    failed = next(content for kind, content in result.messages if kind == "execution_error")
    assert failed["node_id"] in key


def test_a_muted_decode_stream_is_named_before_anything_runs(host_server):
    """The front end leaves a muted node and its wires out of the prompt."""
    graph = tiny()
    del graph[DECODE], graph[SAVE]["inputs"]["frames"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        host_server.json("/prompt", {"prompt": graph})
    assert caught.value.code == 400
    errors = json.loads(caught.value.read())["node_errors"]
    assert errors[SAVE]["class_type"] == "TalkStreamSaveStream"
    assert errors[SAVE]["errors"][0]["type"] == "required_input_missing"
    assert errors[SAVE]["errors"][0]["details"] == "frames"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (41, 37), (1, 400)])
@pytest.mark.parametrize("fit", ["cover (crop)", "contain (bars)"])
def test_portraits_of_any_size_and_without_a_face_work(host_server, width, height, fit):
    """One pixel, odd sides, a sliver; no face is looked for."""
    graph = changed(tiny(seconds=0.3), n3={"width": width, "height": height}, n5={"fit": fit})
    result = run(host_server, graph)
    assert result.error == ""
    found = probe(result.video(SAVE, host_server))
    assert (found.size, found.frames) == ((32, 32), 8)


def test_the_alpha_of_a_portrait_is_left_out(host_server):
    """RGBA from Join Image with Alpha gives the same frames as its colours alone."""
    graph = tiny(seconds=0.3)
    del graph[SAVE]
    graph |= {
        "10": node("SolidMask", value=0.4, width=40, height=48),
        "11": node("JoinImageWithAlpha", image=["3", 0], alpha=["10", 0]),
        "12": node(
            "TalkStreamEncodeReference", model=["1", 0], vae=["2", 0], image=["11", 0], width=0, height=0
        ),
        "13": node("TalkStreamStreamChunks", model=["1", 0], speech=["4", 0], reference=["12", 0], seed=1),
        "14": node("TalkStreamDecodeStream", stream=["13", 0], vae=["2", 0]),
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=8),
        "21": node("TalkStreamCollectFrames", frames=["14", 0], start=0, limit=8),
        "22": node("TestDifference", a=["20", 0], b=["21", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    assert result.outputs["22"]["text"][0] == "(8, 32, 32, 3) 0.0"


def test_five_minutes_of_voice_on_a_budget_of_a_second(host_server):
    result = run(host_server, changed(tiny(seconds=300.0), n4={"limit_seconds": 1.0}))
    assert result.error == ""
    found = probe(result.video(SAVE, host_server))
    assert (found.frames, found.sample_rate) == (25, 16000)


def test_of_a_batch_through_the_api_only_the_bad_one_fails(host_server):
    """Five prompts with other voices and portraits, queued at once; the third has a size that no student can have."""
    graphs = [
        changed(
            tiny(seconds=0.3 + 0.04 * number),
            n3={"color": 0x101010 * number},
            n6={"seed": number},
            n8={"filename_prefix": f"five/{number}"},
        )
        for number in range(5)
    ]
    graphs[2]["5"]["inputs"]["width"] = 100
    outcomes = [ended for ended, _ in run_batch(host_server, graphs)]
    assert [bool(ended.error) for ended in outcomes] == [False, False, True, False, False]
    assert outcomes[2].node == "TalkStreamEncodeReference #5"
    assert outcomes[2].error == "got a size of 100x32, expected multiples of 16: 96x32 is near"
    videos = sorted(path.name for path in (host_server.base / "output" / "five").glob("*.mp4"))
    assert videos == [f"{number}_00001_.mp4" for number in (0, 1, 3, 4)]
    frames = [probe(host_server.base / "output" / "five" / name).frames for name in videos]
    assert frames == [8, 9, 11, 12]
