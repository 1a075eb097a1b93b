"""What an artist reads when a graph cannot work: one sentence that says what is wrong and what to change."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from talkstream.tests.nodes.client import changed, run
from talkstream.tests.nodes.graphs import DECODE, SAVE, STREAM, node, tiny

pytestmark = pytest.mark.host


def livetalk(**stream: list) -> dict:
    """The tiny graph around a student that needs wav2vec2 and a text."""
    graph = changed(
        tiny(seconds=0.5), n1={"student": "livetalk_1.3b.safetensors"}, n5={"width": 64, "height": 64}
    )
    graph["10"] = node("AudioEncoderLoader", audio_encoder_name="wav2vec2_base_960h.safetensors")
    graph["11"] = node("TestTextRows", width=4096)
    graph["4"]["inputs"]["audio_encoder"] = ["10", 0]
    graph[STREAM]["inputs"].update({"conditioning": ["11", 0], **stream})
    return graph


def without(graph: dict, key: str, slot: str) -> dict:
    result = changed(graph)
    del result[key]["inputs"][slot]
    return result


def with_node(graph: dict, key: str, class_type: str, **inputs) -> dict:
    return {**changed(graph), key: node(class_type, **inputs)}


CASES = {
    "another family": (changed(tiny(), n1={"student": "plain_wan.safetensors"}), "not a streaming student"),
    "cut off": (changed(tiny(), n1={"student": "cut_off.safetensors"}), "is cut off"),
    "missing keys": (changed(tiny(), n1={"student": "missing_keys.safetensors"}), "4 missing (blocks.2.ffn.0.weight"),
    "lip sync": (changed(tiny(), n1={"student": "lip_sync.safetensors"}), "repaints the mouth of a video"),
    "wrong VAE": (changed(tiny(), n2={"vae_name": "pixel_space"}), "got another VAE"),
    "the Mini's VAE": (
        changed(tiny(), n2={"vae_name": "talkstream_mini_vae.safetensors"}),
        "got TalkStream Mini's VAE for the student 'tiny'",
    ),
    "the Mini with a Wan VAE": (
        changed(tiny(), n1={"student": "talkstream_mini.safetensors"}),
        "got a VAE 8 channels wide for the student 'talkstream_mini'",
    ),
    "wrong profile": (changed(tiny(), n1={"profile": "livetalk"}), "set profile to auto"),
    "no audio": (with_node(tiny(), "9", "TestNoAudio"), "no audio"),
    "empty audio": (tiny(seconds=0.0), "no samples"),
    "two pictures": (changed(tiny(), n3={"batch_size": 2}), "expected one portrait"),
    "odd size": (changed(tiny(), n5={"width": 40, "height": 48}), "expected multiples of 16"),
    "no encoder": (without(livetalk(), "4", "audio_encoder"), "hears through wav2vec2"),
    "no text": (without(livetalk(), STREAM, "conditioning"), "reads a text and got none"),
    "narrow text": (changed(livetalk(), n11={"width": 768}), "the student reads 4096"),
    "short window": (
        with_node(
            changed(tiny(), n6={"cache": ["12", 0]}), "12", "TalkStreamKVCache", window=5, sink=-1,
            sink_rule="as trained", dtype="as trained", placement="as trained",
        ),
        "too short for a sink of 3",
    ),
    "rising levels": (
        with_node(
            changed(tiny(), n6={"sigmas": ["12", 0]}), "12", "TalkStreamStepSchedule", preset="custom list", shift=1.0,
            custom="0.5, 0.8",
        ),
        "strictly falling",
    ),
    "outside": (changed(tiny(), n8={"filename_prefix": "../../outside"}), "expected a place inside"),
    "two students": (
        with_node(
            changed(tiny(), n6={"model": ["12", 0]}), "12", "TalkStreamLoadStudent",
            student="talkstream_mini.safetensors",
        ),
        "connect the same MODEL",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_for(case, host_server, model_files):
    graph, words = CASES[case]
    result = run(host_server, graph)
    assert result.error
    assert words in result.error
    assert len(result.error.splitlines()) == 1
    assert "Traceback" not in result.error


def test_a_folder_that_cannot_be_written(host_server, model_files):
    """A file stands where the folder should be."""
    (host_server.base / "output" / "taken").write_text("a file")
    result = run(host_server, changed(tiny(), n8={"filename_prefix": "taken/here/video"}))
    assert "cannot write to" in result.error
    assert "filename_prefix" in result.error


def test_a_model_that_streams_refuses_an_ordinary_sampler(host_server, model_files):
    """Called without a stream, the graft says where the MODEL belongs."""
    graph = livetalk()
    for key in (SAVE, DECODE, STREAM, "4", "5", "9", "10"):
        del graph[key]
    graph |= {
        "12": node("EmptyHunyuanLatentVideo", width=64, height=64, length=1, batch_size=1),
        "13": node(
            "KSampler", model=["1", 0], positive=["11", 0], negative=["11", 0], latent_image=["12", 0], seed=1, steps=1,
            cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        ),
        "14": node("VAEDecode", samples=["13", 0], vae=["2", 0]),
        "15": node("PreviewImage", images=["14", 0]),
    }  # fmt: skip
    assert "connect it to Stream Chunks" in run(host_server, graph).error


def test_a_larger_wav2vec2_is_named(host):
    """The check reads module names; the true large model takes 1.2 GB."""
    from talkstream.networks.profile import LIVETALK
    from talkstream.nodes.host.audio_encoder import check_audio_encoder

    layer = SimpleNamespace(attention=SimpleNamespace(embed_dim=1024))
    large = SimpleNamespace(
        model=SimpleNamespace(feature_extractor=None, encoder=SimpleNamespace(layers=[layer] * 24))
    )
    with pytest.raises(
        ValueError,
        match="got wav2vec2 with 24 layers of width 1024, expected wav2vec2-base-960h, a wav2vec2 with 12",
    ):
        check_audio_encoder(large, LIVETALK)


def test_an_encoder_of_another_kind_is_named(host):
    from talkstream.networks.profile import LIVETALK
    from talkstream.nodes.host.audio_encoder import check_audio_encoder

    whisper = SimpleNamespace(model=SimpleNamespace())
    with pytest.raises(
        ValueError, match="expected wav2vec2-base-960h, a wav2vec2 with 12 layers of width 768"
    ):
        check_audio_encoder(whisper, LIVETALK)
