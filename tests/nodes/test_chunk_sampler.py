"""Chunk Sampler inside core's own SamplerCustomAdvanced, against Stream Chunks with the same noise."""

from __future__ import annotations

import pytest
import torch

from talkstream.tests.nodes.client import run
from talkstream.tests.nodes.graphs import node, tiny
from talkstream.tests.nodes.model_files import write_students

SEED = 11


@pytest.fixture(scope="module")
def student(host, tmp_path_factory):
    """The MODEL as Load Student gives it, in float32."""
    from talkstream.nodes.host.student import load_student

    folder = tmp_path_factory.mktemp("students")
    write_students(folder)
    return load_student(folder / "tiny.safetensors", profile="auto", precision="fp32")[0]


@pytest.fixture(scope="module")
def reference(host):
    from talkstream.nodes.types import Reference

    return Reference(torch.randn(1, 16, 1, 4, 4, generator=torch.Generator().manual_seed(1)), 32, 32)


def speech_of(model, seconds: float):
    from talkstream.nodes.voice import prepare_speech

    times = torch.arange(round(seconds * 16000)) / 16000
    samples = 0.3 * torch.sin(2 * torch.pi * 200 * times) * torch.sin(2 * torch.pi * 3 * times)
    audio = {"waveform": samples[None, None], "sample_rate": 16000}
    return prepare_speech(model, audio, encoder=None, window="auto", limit_seconds=0.0)


class StreamNoise:
    """A NOISE that starts every chunk as Stream Chunks does."""

    seed = SEED

    def generate_noise(self, latent):
        from talkstream.samplers.noise import SeededNoise

        shape = latent["samples"].shape
        chunks = shape[2] // 3
        pieces = [SeededNoise(SEED).initial(i, (*shape[:2], 3, *shape[3:])) for i in range(chunks)]
        return torch.cat(pieces, dim=2)


def sampled(model, speech, reference, *, guider=None, noise=None, sigmas=None, latent=None) -> tuple:
    """Both LATENTs of SamplerCustomAdvanced, as the network sees them."""
    from comfy.latent_formats import Wan21
    from comfy.samplers import CFGGuider
    from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced

    from talkstream.nodes.stream import ChunkSampler

    sampler, empty = ChunkSampler.execute(speech, reference).result
    if guider is None:
        guider = CFGGuider(model)
        guider.set_conds([[torch.randn(1, 7, 16), {}]], [])
    if sigmas is None:
        sigmas = torch.tensor([1.0, 0.8, 0.0])
    with torch.inference_mode():
        made = SamplerCustomAdvanced.execute(noise or StreamNoise(), guider, sampler, sigmas, latent or empty)
    return tuple(Wan21().process_in(output["samples"]) for output in made.result)


def streamed(model, speech, reference) -> torch.Tensor:
    """The latents of Stream Chunks."""
    from talkstream.nodes.host import memory
    from talkstream.nodes.host.graft import HostNetwork
    from talkstream.nodes.plan import stream_of
    from talkstream.nodes.sessions import open_session
    from talkstream.samplers.noise import SeededNoise

    stream = stream_of(model, speech, reference, text_BMD=None, sigmas=None, cache=None, seed=SEED)
    memory.load_together(stream.get_models(), extra_bytes=0)
    with torch.inference_mode(), HostNetwork(model, text_BMD=None) as network:
        session = open_session(stream, network, noise=SeededNoise(SEED), on_step=lambda step, x0: None)
        return torch.cat([chunk.latent_BCTHW for chunk in session.chunks()], dim=2)


@pytest.mark.host
def test_equal_to_stream_chunks_for_the_same_noise(student, reference):
    """Through core's guider, noise and sampler node; only the way into VAE units and back rounds."""
    speech = speech_of(student, 1.32)  # 33 frames: 9 latents, three chunks
    expected = streamed(student, speech, reference)
    result, denoised = sampled(student, speech, reference)
    assert expected.shape == result.shape == (1, 16, 9, 4, 4)
    assert float(expected.abs().max()) > 0.5
    assert float((result - expected).abs().max()) < 2e-6
    assert torch.equal(denoised, result)


@pytest.mark.host
def test_a_clip_is_as_long_as_its_voice(student, reference):
    """25 frames are 7 latents; the last chunk's other two are made and cut off."""
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    speech = speech_of(student, 1.0)
    result, _ = sampled(student, speech, reference, noise=Noise_RandomNoise(3))
    again, _ = sampled(student, speech, reference, noise=Noise_RandomNoise(3))
    other, _ = sampled(student, speech, reference, noise=Noise_RandomNoise(4))
    assert result.shape == (1, 16, 7, 4, 4)
    assert torch.equal(result, again)
    assert float((result - other).abs().max()) > 0.1


@pytest.mark.host
def test_what_a_guider_changes_is_taken_over(student, reference):
    """A patch on the guider's x0 reaches the next step and the result."""
    from comfy.samplers import CFGGuider

    speech = speech_of(student, 0.84)
    patched = student.clone()
    patched.set_model_sampler_post_cfg_function(lambda args: 0.5 * args["denoised"])
    guider = CFGGuider(patched)
    guider.set_conds([[torch.randn(1, 7, 16), {}]], [])
    plain, _ = sampled(student, speech, reference)
    halved, _ = sampled(patched, speech, reference, guider=guider)
    assert float((halved - plain).abs().max()) > 0.1
    last = halved[:, :, 1:]  # latent 0 is the picture
    assert float(last.abs().mean()) < 0.75 * float(plain[:, :, 1:].abs().mean())


@pytest.mark.host
def test_the_final_zero_may_be_missing(student, reference, caplog):
    speech = speech_of(student, 0.84)
    expected, _ = sampled(student, speech, reference)
    caplog.set_level("INFO")
    result, _ = sampled(student, speech, reference, sigmas=torch.tensor([1.0, 0.8]))
    assert float((result - expected).abs().max()) < 1e-5  # 0.8 comes as float32
    assert "no final 0" in caplog.text


@pytest.mark.host
def test_guidance_rising_sigmas_and_foreign_latents_are_refused(student, reference):
    from comfy.samplers import CFGGuider

    speech = speech_of(student, 0.3)
    guider = CFGGuider(student)
    guider.set_conds([[torch.randn(1, 7, 16), {}]], [[torch.randn(1, 7, 16), {}]])
    guider.set_cfg(3.0)
    with pytest.raises(Exception, match="students run without guidance"):
        sampled(student, speech, reference, guider=guider)
    with pytest.raises(ValueError, match="strictly falling"):
        sampled(student, speech, reference, sigmas=torch.tensor([0.8, 1.0, 0.0]))
    with pytest.raises(ValueError, match="connect the one that Chunk Sampler makes"):
        sampled(student, speech, reference, latent={"samples": torch.zeros(1, 16, 12, 4, 4)})
    with pytest.raises(ValueError, match="starts from an empty one"):
        sampled(student, speech, reference, latent={"samples": torch.ones(1, 16, 3, 4, 4)})


@pytest.mark.host
def test_every_step_shows_the_newest_latent_and_the_last_one_everything(student, reference):
    """Core previews the first latent that it is shown."""
    from comfy.samplers import CFGGuider

    from talkstream.nodes.stream import ChunkSampler

    sampler, empty = ChunkSampler.execute(speech_of(student, 1.32), reference).result
    guider = CFGGuider(student)
    guider.set_conds([[torch.randn(1, 7, 16), {}]], [])
    shown = []
    with torch.inference_mode():
        guider.sample(
            StreamNoise().generate_noise(empty),
            empty["samples"],
            sampler,
            torch.tensor([1.0, 0.8, 0.0]),
            callback=lambda step, x0, x, total: shown.append((step, x0.shape[2], total)),
            seed=SEED,
        )
    assert shown == [(i, 1, 6) for i in range(5)] + [(5, 9, 6)]


@pytest.mark.host
def test_stop_ends_the_clip(student, reference):
    """The host's interrupt passes through, and the next clip is whole."""
    import comfy.model_management as management

    speech = speech_of(student, 0.84)
    expected, _ = sampled(student, speech, reference)
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        sampled(student, speech, reference)
    management.interrupt_current_processing(False)
    assert torch.equal(sampled(student, speech, reference)[0], expected)


@pytest.mark.host
def test_a_graph_of_core_nodes_runs(host_server, model_files):
    """RandomNoise, BasicGuider, BasicScheduler, SamplerCustomAdvanced, VAEDecode, as an artist wires them."""
    graph = {key: value for key, value in tiny(seconds=0.84).items() if key not in "678"}
    graph |= {
        "10": node("TalkStreamChunkSampler", speech=["4", 0], reference=["5", 0]),
        "11": node("TestTextRows", width=16),
        "12": node("BasicGuider", model=["1", 0], conditioning=["11", 0]),
        "13": node("RandomNoise", noise_seed=5),
        "14": node("BasicScheduler", model=["1", 0], scheduler="simple", steps=3, denoise=1.0),
        "15": node(
            "SamplerCustomAdvanced", noise=["13", 0], guider=["12", 0], sampler=["10", 0], sigmas=["14", 0],
            latent_image=["10", 1],
        ),
        "16": node("VAEDecode", samples=["15", 0], vae=["2", 0]),
        "17": node("VAEDecode", samples=["15", 1], vae=["2", 0]),
        "18": node("TestDifference", a=["16", 0], b=["17", 0]),
    }  # fmt: skip
    result = run(host_server, graph)
    assert result.error == ""
    assert result.outputs["18"]["text"][0] == "(21, 32, 32, 3) 0.0"
