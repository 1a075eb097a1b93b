"""The load stage's nodes on a running host: texts in files, Model Doctor, tiny decoders in a graph."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from talkstream.tests.nodes.client import changed, run
from talkstream.tests.nodes.graphs import DECODE, SAVE, node, tiny

pytestmark = pytest.mark.host


def text_of(result, key: str) -> str:
    return "".join(result.outputs[key]["text"])


def test_an_encoded_text_goes_through_a_file(host_server, model_files):
    """Saved, listed, loaded, and refused where its width is not the student's; wrong files say what they are."""
    rows = {
        "1": node("TestTextRows", width=64),
        "2": node(
            "TalkStreamSaveConditioning",
            conditioning=["1", 0],
            filename_prefix="texts/fixed",
            note="a person",
        ),
    }
    saved = run(host_server, rows)
    assert text_of(saved, "2") == "512 rows, 64 wide, float32\nin fixed_00001_.safetensors"
    name = "texts/fixed_00001_.safetensors [output]"
    loaded = run(
        host_server,
        {
            "1": node("TalkStreamLoadConditioning", file=name),
            "2": node("TalkStreamSaveConditioning", conditioning=["1", 0], filename_prefix="texts/again"),
        },
    )
    assert text_of(loaded, "1") == "512 rows, 64 wide, float32\na person"
    folder = host_server.base / "output" / "texts"
    from talkstream.model_loaders.conditioning_file import read_conditioning

    first, _ = read_conditioning(folder / "fixed_00001_.safetensors")
    again, _ = read_conditioning(folder / "again_00001_.safetensors")
    assert torch.equal(first[0][0], again[0][0]) and first[0][0].std() > 0.5
    save_file({"decoder.conv_in.weight": torch.zeros(2)}, str(folder / "wrong.safetensors"))
    wrong = {
        "1": node("TalkStreamLoadConditioning", file="texts/wrong.safetensors [output]"),
        "2": node("TalkStreamSaveConditioning", conditioning=["1", 0], filename_prefix="texts/never"),
    }
    assert "is a VAE of another model, not an encoded text" in run(host_server, wrong).error
    assert not list(folder.glob("never*"))


def test_model_doctor_answers_on_its_node(host_server, model_files):
    graph = {"1": node("TalkStreamModelDoctor", file="vae/wan_2.1_vae.safetensors")}
    assert "it is a Wan VAE" in text_of(run(host_server, graph), "1")
    graph = {"1": node("TalkStreamModelDoctor", file="diffusion_models/missing_keys.safetensors")}
    assert "missing: blocks.2.ffn.0.weight" in text_of(run(host_server, graph), "1")


def test_a_tiny_decoder_previews_and_decodes(host_server, model_files, host, tmp_path):
    """As preview it changes nothing in the frames; as vae it makes the same number of other ones."""
    from comfy.taesd.taehv import TAEHV

    generator = torch.Generator().manual_seed(2)
    weights = {
        key: 0.05 * torch.randn(t.shape, generator=generator)
        for key, t in TAEHV(latent_channels=16).state_dict().items()
    }
    folder = model_files / "vae_approx"
    folder.mkdir(exist_ok=True)
    save_file({name: t.bfloat16() for name, t in weights.items()}, str(folder / "lighttaew2_1.safetensors"))
    graph = tiny(seconds=0.5)
    del graph[SAVE]
    graph |= {
        "20": node("VAELoader", vae_name="lighttaew2_1.safetensors"),
        "21": node("TalkStreamDecodeStream", stream=graph[DECODE]["inputs"]["stream"], vae=["2", 0]),
        "22": node("TalkStreamDecodeStream", stream=graph[DECODE]["inputs"]["stream"], vae=["20", 0]),
        "31": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=99),
        "32": node("TalkStreamCollectFrames", frames=["21", 0], start=0, limit=99),
        "33": node("TalkStreamCollectFrames", frames=["22", 0], start=0, limit=99),
        "41": node("TestDifference", a=["31", 0], b=["32", 0]),
        "42": node("TestDifference", a=["31", 0], b=["33", 0]),
    }
    graph = changed(graph, n21={"preview_vae": ["20", 0]})
    result = run(host_server, graph)
    assert result.error == ""
    shape, same = text_of(result, "41").rsplit(" ", 1)
    assert shape.startswith("(13, ") and float(same) == 0.0
    shape, other = text_of(result, "42").rsplit(" ", 1)
    assert shape.startswith("(13, ") and float(other) > 0.05
    full = changed(graph, n21={"preview_vae": ["2", 0]})
    assert "preview_vae got a full VAE" in run(host_server, full).error
