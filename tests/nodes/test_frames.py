"""What happens to pictures between decoding and the end: larger ones, a piece of them, another decoder, a LoRA."""

from __future__ import annotations

import pytest

from talkstream.tests.nodes.client import changed, probe, queue, run, wait
from talkstream.tests.nodes.extra_files import write_extras
from talkstream.tests.nodes.graphs import DECODE, SAVE, STREAM, node, tiny
from talkstream.tests.nodes.test_stop import Browser

pytestmark = pytest.mark.host
UPSCALE, LOADER = "30", "31"


@pytest.fixture(scope="module", autouse=True)
def extras(model_files):
    write_extras(model_files)


def enlarged(**options) -> dict:
    """The tiny graph with Upscale Stream before Save Stream."""
    graph = tiny(**options)
    graph |= {
        LOADER: node("UpscaleModelLoader", model_name="tiny_x2.safetensors"),
        UPSCALE: node("TalkStreamUpscaleStream", frames=[DECODE, 0], upscale_model=[LOADER, 0]),
    }
    return changed(graph, n8={"frames": [UPSCALE, 0]})


def same_stream(key: int, model: str) -> dict:
    """The stream of another MODEL node: its pictures come from node key + 2."""
    encoded = {"speech": ["4", 0], "reference": ["5", 0]}
    return {
        str(key): node("TalkStreamStreamChunks", model=[model, 0], seed=1, **encoded),
        str(key + 1): node("TalkStreamDecodeStream", stream=[str(key), 0], vae=["2", 0]),
        str(key + 2): node("TalkStreamCollectFrames", frames=[str(key + 1), 0], start=0, limit=21),
    }


def difference(result, key: str) -> tuple[str, float]:
    shape, value = result.outputs[key]["text"][0].rsplit(" ", 1)
    return shape, float(value)


def test_larger_pictures_are_those_of_cores_upscale_node(host_server):
    graph = enlarged(seconds=0.84)
    del graph[SAVE]
    graph |= {
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=21),
        "21": node("ImageUpscaleWithModel", upscale_model=[LOADER, 0], image=["20", 0]),
        "22": node("TalkStreamCollectFrames", frames=[UPSCALE, 0], start=0, limit=21),
        "23": node("TestDifference", a=["21", 0], b=["22", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    shape, largest = difference(result, "23")
    assert shape == "(21, 64, 64, 3)"
    assert 0 <= largest < 1e-6


def test_save_stream_writes_the_larger_frames_and_the_bar_is_on_the_node(host_server):
    browser = Browser(host_server)
    prompt_id = queue(host_server, enlarged(seconds=0.84), client_id=browser.id)
    bar = (0, 0)
    for kind, data in browser.events():
        if kind == "progress_state" and UPSCALE in data["nodes"]:
            state = data["nodes"][UPSCALE]
            bar = max(bar, (state["max"], state["value"]))
        if kind in ("execution_success", "execution_error"):
            break
    browser.socket.close()
    result = wait(host_server, prompt_id)
    assert result.error == ""
    assert bar == (21, 21)
    found = probe(result.video(SAVE, host_server))
    assert (found.size, found.frames) == ((64, 64), 21)
    assert result.outputs[UPSCALE]["text"] == ["32x32 \N{RIGHTWARDS ARROW} 64x64"]


def test_a_piece_is_cut_exactly(host_server):
    """Collect Frames from 7 on against the same frames of the whole; its sound is as long as its pictures."""
    graph = tiny(seconds=1.5, sample_rate=22050)
    del graph[SAVE]
    graph |= {
        "20": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=0, limit=500),
        "21": node("ImageFromBatch", image=["20", 0], batch_index=7, length=10),
        "22": node("TalkStreamCollectFrames", frames=[DECODE, 0], start=7, limit=10),
        "23": node("TestDifference", a=["21", 0], b=["22", 0]),
        "24": node("VAEDecode", samples=["22", 2], vae=["2", 0]),
        "25": node("TestDifference", a=["24", 0], b=["24", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    assert difference(result, "23") == ("(10, 32, 32, 3)", 0.0)
    # Frames 7 to 16 lie in latents 2 to 4, of which the first decodes to one frame when it stands alone.
    assert difference(result, "25") == ("(9, 32, 32, 3)", 0.0)


def test_a_refined_decoder_changes_the_pictures_and_the_plain_vae_does_not_change(host_server):
    """Stream, refine, stream again with the first VAE: bit-identical; with the refined one: other pictures."""
    graph = tiny(seconds=0.84)
    del graph[SAVE]
    graph |= {
        "12": node("TalkStreamLoadVAERefiner", vae=["2", 0], refiner="refined_decoder.safetensors"),
        "13": node("TalkStreamDecodeStream", stream=[STREAM, 0], vae=["12", 0], precision="as loaded"),
        "20": node("TalkStreamCollectFrames", frames=["13", 0], start=0, limit=21),
        "21": node("VAEDecode", samples=["20", 2], vae=["12", 0]),
        "22": node("VAEDecode", samples=["20", 2], vae=["2", 0]),
        "23": node("TestDifference", a=["20", 0], b=["21", 0]),
        "24": node("TestDifference", a=["20", 0], b=["22", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    assert 0 <= difference(result, "23")[1] < 1e-4
    assert difference(result, "24")[1] > 0.05


def test_a_refiner_of_another_kind_is_refused(host_server):
    graph = changed(tiny(), n7={"vae": ["12", 0]})
    graph["12"] = node("TalkStreamLoadVAERefiner", vae=["2", 0], refiner="talkstream_mini_vae.safetensors")
    error = run(host_server, graph).error
    assert "is no decoder for this VAE" in error
    assert len(error.splitlines()) == 1


def test_lora_and_model_sampling_of_core(host_server):
    """At strength 0 nothing changes, at 1 something does, and the profile lives through every one of these nodes."""
    graph = tiny(seconds=0.84)
    for key in (SAVE, DECODE, STREAM):
        del graph[key]
    lora = {"lora_name": "tiny_lora.safetensors"}
    graph |= {
        "40": node("LoraLoaderModelOnly", model=["1", 0], strength_model=0.0, **lora),
        "41": node("ModelSamplingSD3", model=["40", 0], shift=3.0),
        "42": node("LoraLoaderModelOnly", model=["1", 0], strength_model=1.0, **lora),
        "43": node("ModelSamplingAuraFlow", model=["42", 0], shift=1.73),
        **same_stream(50, "1"),
        **same_stream(60, "41"),
        **same_stream(70, "43"),
        **same_stream(80, "42"),
        "90": node("TestDifference", a=["52", 0], b=["62", 0]),
        "91": node("TestDifference", a=["52", 0], b=["72", 0]),
        "92": node("TestDifference", a=["82", 0], b=["72", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    assert difference(result, "90") == ("(21, 32, 32, 3)", 0.0)
    assert difference(result, "91")[1] > 0.01
    assert difference(result, "92")[1] == 0.0
