"""Students of the MultiTalk family through the graph: the plan, the film, the take, and what is refused."""

from __future__ import annotations

import pytest

from talkstream.tests.nodes.client import changed, probe, run
from talkstream.tests.nodes.graphs import DECODE, SAVE, STREAM, flashtalk, node, tiny

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]


def text_of(result, name: str) -> str:
    return result.outputs[name]["text"][0]


def test_flashtalk_from_voice_to_film(host_server):
    """38 frames in chunks of 28, the last one trimmed; a second pull and another node replay the take."""
    graph = flashtalk(seconds=1.5) | {
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=20, limit=12),
        "21": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=20, limit=12),
        "22": node("TestDifference", a=["20", 0], b=["21", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    assert "1.50 s → 38 frames at 25 fps → 2 chunks" in text_of(result, "4")
    loaded = text_of(result, "1")
    assert "a MultiTalk student (width 128, 2 layers)" in loaded and "profile flashtalk: its form" in loaded
    made = probe(result.video(SAVE, host_server))
    assert (made.frames, float(made.fps), made.size, made.sample_rate) == (38, 25.0, (32, 32), 16000)
    assert text_of(result, "22") == "(12, 32, 32, 3) 0.0"


def test_a_pull_goes_on_where_another_stopped(host_server):
    """Five frames take one chunk of network calls, all frames the other one; the same as in one go."""

    def collected(graph: dict, limit: int) -> tuple[str, int]:
        collect = node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=limit)
        graph = {**graph, "20": collect, "21": node("TestDigest", image=["20", 0])}
        del graph[SAVE]
        host_server.json("/test/calls", {})
        result = run(host_server, graph)
        assert result.error == ""
        return text_of(result, "21"), host_server.json("/test/calls", {})["made"]

    graph = changed(flashtalk(), **{f"n{STREAM}": {"model": ["30", 0], "seed": 77}})
    graph["30"] = node("TestCountCalls", model=["1", 0])
    assert collected(graph, 5)[1] == 4
    behind, calls = collected(graph, 500)
    assert calls == 4
    other = changed(graph, n9={"seconds": 1.50001})  # as many samples; the host has no result for it
    whole, calls = collected(other, 500)
    assert calls == 8 and whole == behind


def infinitetalk(**inputs) -> dict:
    """InfiniteTalk in two steps without guidance; Stream Chunks gets further inputs."""
    graph = changed(
        flashtalk(),
        n1={"student": "infinitetalk_multi.safetensors", "base": "wan2.1_i2v_480p_14B_fp16.safetensors"},
        **{f"n{STREAM}": {"sigmas": ["50", 0], **inputs}},
    )
    graph["50"] = node("ManualSigmas", sigmas="1, 0.5, 0")
    graph["51"] = node("TalkStreamGuidance", text=1.0, audio=1.0)
    return graph


def speakers(graph: dict, *, first: float = 1.0, second: float = 0.6, **masks) -> dict:
    """The graph with two voices instead of one; masks: inputs of Speaker Masks, if any."""
    graph = graph | {
        "9": node("TestVoice", seconds=first, seed=1),
        "52": node("TestVoice", seconds=second, seed=2),
    }
    graph["4"] = node(
        "TalkStreamEncodeSpeakers",
        model=["1", 0],
        audio_1=["9", 0],
        audio_2=["52", 0],
        audio_encoder=["10", 0],
        mixing="together",
    )
    if masks:
        graph["53"] = node("TalkStreamSpeakerMasks", image=["3", 0], **{"speakers": 2, **masks})
        graph = changed(graph, n5={"speaker_masks": ["53", 0]})
    return graph


def test_two_speakers_together(host_server):
    """The shorter voice is silent at its end, which the node says; exchanged masks make another film."""
    digests = []
    for boxes in ("0 0.3 0.5 1\n0.5 0.3 1 1", "0.5 0.3 1 1\n0 0.3 0.5 1"):
        graph = speakers(infinitetalk(guidance=["51", 0]), boxes=boxes)
        # One colour all over draws no token to one region more than to another.
        graph["3"] = node("TalkStreamExamples", portrait="hazel", sentence="hello")
        graph["20"] = node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=100)
        graph["21"] = node("TestDigest", image=["20", 0])
        result = run(host_server, graph)
        assert result.error == ""
        digests.append(text_of(result, "21"))
    assert "speaker 2: 0.60 s, silent for the other 0.40 s" in text_of(result, "4")
    assert probe(result.video(SAVE, host_server)).frames == 25
    assert digests[0] != digests[1]


def masks_of(number: str, **inputs) -> dict:
    """Speaker Masks of the portrait, as pictures."""
    return {
        number: node("TalkStreamSpeakerMasks", **{"image": ["3", 0], "speakers": 2, **inputs}),
        f"{number}1": node("MaskToImage", mask=[number, 0]),
    }


def test_masks_from_tracked_faces(host_server):
    """Two faces of a portrait of 40 x 48, each by its own Track Face: boxes a quarter larger on every side."""
    faces = {"6": "4.4, 20.4, 8, 16", "7": "24.4, 20.4, 8, 16"}
    graph = {
        "3": flashtalk()["3"],
        "5": node("CreateVideo", images=["3", 0], fps=25.0),
        **{key: node("TalkStreamTrackFace", video=["5", 0], box=box) for key, box in faces.items()},
        **masks_of("8", face_1=["6", 0], face_2=["7", 0]),
        **masks_of("9", boxes="0.06 0.341667 0.36 0.841667\n0.56 0.341667 0.86 0.841667"),
        "10": node("TestDifference", a=["81", 0], b=["91", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    assert text_of(result, "10") == "(2, 48, 40, 3) 0.0"
    alone = graph | masks_of("8", face_1=["6", 0])
    assert "got one face; connect one Track Face for each" in run(host_server, alone).error
    wide = node("EmptyImage", width=64, height=32, batch_size=1, color=0x804020)
    other = graph | {"4": wide, "5": node("CreateVideo", images=["4", 0], fps=25.0)}
    assert "face 1 was found in a picture of 64x32, the portrait is 40x48" in run(host_server, other).error


def test_the_english_wav2vec2_is_doubted_by_its_name(host_server):
    """Its shapes are those of the Chinese one: the node says what the file is called, and the film is made."""
    doubt = "wav2vec2_base_960h.safetensors is wav2vec2-base-960h by its name; the student 'flashtalk' was trained "
    ears = {"audio_encoder_name": "wav2vec2_base_960h.safetensors"}
    for graph in (flashtalk(seconds=0.3), speakers(infinitetalk(guidance=["51", 0]), first=0.3, second=0.2)):
        right = run(host_server, graph)
        wrong = run(host_server, changed(graph, n10=ears))
        assert (right.error, wrong.error) == ("", "")
        assert "by its name" not in text_of(right, "4")
        assert doubt.replace("flashtalk", "infinitetalk" if "52" in graph else "flashtalk") in text_of(
            wrong, "4"
        )
    assert doubt.split(";")[0] in host_server.log.read_text("utf-8", errors="replace")


REFUSED = {
    "a wav2vec2 that writes words": (
        lambda: changed(flashtalk(), n10={"audio_encoder_name": "with_word_head.safetensors"}),
        "with_word_head.safetensors holds a head that writes words, as wav2vec2-base-960h does; the student "
        "'flashtalk' was trained with chinese-wav2vec2-base: choose that in Load Audio Encoder",
    ),
    "no CLIP vision": (lambda: without(flashtalk(), "5", "clip_vision_output"), "through CLIP vision too and got none"),
    "no text": (lambda: without(flashtalk(), STREAM, "conditioning"), "'flashtalk' reads a text and got none"),
    "no encoder": (lambda: without(flashtalk(), "4", "audio_encoder"), "hears through chinese-wav2vec2-base"),
    "other vision tokens": (lambda: changed(flashtalk(), n12={"width": 768}), "reads one picture 1280 wide"),
    "no negative text": (lambda: infinitetalk(), "is led by text at 5, which needs a negative text"),
    "guidance of a distilled student": (
        lambda: changed(tiny(), **{f"n{STREAM}": {"guidance": ["51", 0]}}) | {"51": infinitetalk()["51"]},
        "was distilled to need no guidance",
    ),
    "a KV cache": (
        lambda: changed(flashtalk(), **{f"n{STREAM}": {"cache": ["54", 0]}}) | {"54": SHORT_CACHE},
        "has no KV cache to change; remove KV Cache",
    ),
    "a portrait of few pixels": (
        lambda: changed(flashtalk(), n3={"width": 1, "height": 1}), "the portrait is 1x1 pixels, smaller than the 2x2"
    ),
    "two voices for the Mini's family": (
        lambda: speakers(infinitetalk()) | {"1": tiny()["1"]}, "hears one voice; use Encode Speech"
    ),
    "overlapping masks": (
        lambda: speakers(infinitetalk(), boxes="0 0 0.7 0.9\n0 0 1 1"), "the masks of speakers 1 and 2 overlap"
    ),
    "an empty mask": (
        lambda: speakers(infinitetalk(), boxes="0 0 0.7 1\n0.9 0.9 0.95 0.95"), "mask of speaker 2 covers no token"
    ),
    "a box that is none": (
        lambda: speakers(infinitetalk(), boxes="0 0 0.5 1\n0.5 0 1.5 1"), "is empty or outside the picture"
    ),
    "more masks than voices": (
        lambda: changed(
            speakers(infinitetalk(), boxes="0 0.3 0.5 1\n0.5 0.3 1 1") | {"4": flashtalk()["4"]},
            **{f"n{STREAM}": {"guidance": ["51", 0]}},
        ),
        "there are 1 voices and 2 speaker masks",
    ),
    "masks for the Mini's family": (
        lambda: changed(tiny(), n5={"speaker_masks": ["53", 0]})
        | {"53": node("TalkStreamSpeakerMasks", image=["3", 0], speakers=2)},
        "the student 'tiny' hears one voice and takes no speaker masks; disconnect speaker_masks",
    ),
    "masks for EchoTorrent": (
        lambda: changed(
            flashtalk(), n1={"student": "echotorrent_14b.safetensors"}, n5={"speaker_masks": ["53", 0]}
        ) | {"53": node("TalkStreamSpeakerMasks", image=["3", 0], speakers=2)},
        "the student 'echotorrent' hears one voice and takes no speaker masks",
    ),
    "more voices than masks": (
        lambda: changed(
            speakers(infinitetalk(guidance=["51", 0]), boxes="0 0.3 0.5 1\n0.5 0.3 1 1"), n4={"audio_3": ["9", 0]}
        ),
        "there are 3 voices and 2 speaker masks",
    ),
    "masks of another picture": (
        lambda: changed(
            speakers(infinitetalk(), boxes="0 0.3 0.5 1\n0.5 0.3 1 1"), n53={"image": ["59", 0]}
        ) | {"59": node("EmptyImage", width=48, height=40, batch_size=1, color=0)},
        "the speaker masks are 48x40, the portrait 40x48",
    ),
    "masks in a picture with bars": (
        lambda: changed(
            speakers(infinitetalk(), boxes="0 0.3 0.5 1\n0.5 0.3 1 1"), n5={"fit": "contain (bars)"}
        ),
        "speaker masks are cut as a covering picture is; set fit to cover (crop)",
    ),
    "a painted mask alone": (
        lambda: changed(speakers(infinitetalk(), boxes=""), n53={"mask_1": ["60", 0]})
        | {"60": node("SolidMask", value=1.0, width=40, height=48)},
        "got 1 mask; give one for each of two or more speakers",
    ),
    "a silent place in the list of voices": (
        lambda: speakers(infinitetalk()) | {"52": node("TestNoAudio")}, "speaker 2: "
    ),
    "a broken track": (
        lambda: speakers(infinitetalk()) | {"52": node("TestBrokenAudio")}, "speaker 2: the audio holds NaN"
    ),
}  # fmt: skip
SHORT_CACHE = node(
    "TalkStreamKVCache", window=5, sink=-1, sink_rule="as trained", dtype="as trained", placement="as trained"
)


def without(graph: dict, key: str, name: str) -> dict:
    del graph[key]["inputs"][name]
    return graph


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(case, host_server):
    graph, words = REFUSED[case]
    result = run(host_server, graph())
    assert words in result.error
    assert len(result.error.splitlines()) == 1
