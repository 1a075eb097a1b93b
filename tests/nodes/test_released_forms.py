"""The references' own weights, written as students are published, through Load Student and the host's network."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import save_file

from talkstream.networks.audio_pack import pack_vectors
from talkstream.networks.profile import LIPFORCING
from talkstream.samplers.noise import RecordedNoise
from talkstream.streaming.mouth_mask import MouthMask
from talkstream.streaming.source_latents import LatentStore
from talkstream.tests.fakes import write_tiny_wan_vae
from talkstream.tests.golden.test_lipforcing_streaming import conditioning
from talkstream.tests.golden.test_livetalk_streaming import GivenSpeech, recorded_noise
from talkstream.tests.golden.wan_golden import Golden, close
from talkstream.tests.model_loaders.test_forms import diffusers_name, nested, write_shards
from talkstream.tests.nodes.lipsync import pulled, tracked
from talkstream.tests.videos import numbered, write_video

pytestmark = pytest.mark.host

RATE = 16000
SIDE = 96  # told to the nodes; the recorded latents have sizes of their own


def flat(weights, folder):
    save_file(weights, str(folder / "model.safetensors"))
    return folder / "model.safetensors"


def diffusers_shards(weights, folder):
    return write_shards(folder / "shards", {diffusers_name(name): t for name, t in weights.items()})[0]


def unmerged(weights, folder):
    """Adapters taken out of the weights again, so that merging gives back what was recorded."""
    generator, content = torch.Generator().manual_seed(1), {}
    for name, tensor in weights.items():
        layer, kind = name.rsplit(".", 1)
        if ".self_attn.q." not in name:
            content[name] = tensor
        elif kind == "bias":
            content[f"{layer}.base_layer.bias"] = tensor
        else:
            down = 0.05 * torch.randn(4, tensor.shape[1], generator=generator)
            up = 0.05 * torch.randn(tensor.shape[0], 4, generator=generator)
            content[f"{layer}.base_layer.weight"] = tensor - 0.5 * up @ down
            content |= {f"{layer}.lora_A.default.weight": down, f"{layer}.lora_B.default.weight": up}
    torch.save(
        {"generator": {f"model.{name}": tensor for name, tensor in content.items()}}, folder / "model.pt"
    )
    return folder / "model.pt"


def pickled(*keys, prefix=""):
    def write(weights, folder):
        named = {prefix + name: tensor for name, tensor in weights.items()}
        torch.save(nested(named, *keys), folder / "lipforcing_14b.pth")
        return folder / "lipforcing_14b.pth"

    return write


@pytest.fixture
def made_by_the_nodes(host, tmp_path, monkeypatch):
    """A written file -> the latents of Load Student, Stream Chunks and Decode Stream, of recorded inputs.

    What the goldens do not record as a voice, a picture or a video comes in where the nodes have encoded theirs.
    """
    import comfy.sd
    import comfy.utils

    from talkstream.nodes import pull, sessions
    from talkstream.nodes.host.graft import audio_modules, profile_of
    from talkstream.nodes.host.student import load_student
    from talkstream.nodes.plan import plan_frames, plan_stream
    from talkstream.nodes.types import Reference, Speech

    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(write_tiny_wan_vae(tmp_path / "vae.safetensors"))))

    def made(path, profile, *, latents, latent_BCTHW, text_BMD, tokens_of, noise, source_of=None, video=None):
        model, _ = load_student(path, profile=profile, precision="fp32")
        chosen = profile_of(model)
        source = None if source_of is None else source_of(chosen, vae)
        monkeypatch.setattr(
            sessions, "open_speech", lambda _: GivenSpeech(tokens_of(audio_modules(model).audio_proj))
        )
        monkeypatch.setattr(pull, "SeededNoise", lambda *_: noise)
        monkeypatch.setattr(sessions, "SeededNoise", lambda *_, segment: noise)
        if video is not None:
            monkeypatch.setattr(pull, "open_video", lambda _: nullcontext(video))
        samples = torch.zeros(1, (4 * latents - 3) * RATE * chosen.fps_den // chosen.fps_num)
        stream = plan_stream(
            model,
            Speech(chosen, samples, RATE, None, "whole", 0.0),
            Reference(latent_BCTHW, SIDE, SIDE),
            conditioning=[[text_BMD, {}]],
            sigmas=None,
            cache=None,
            seed=0,
            source=source,
        )
        chunks = pulled(plan_frames(stream, vae, precision="auto"))
        return torch.cat([chunk.latent_BCTHW for chunk in chunks], dim=2)

    with torch.inference_mode():
        yield made


@pytest.mark.parametrize("write", [flat, diffusers_shards, unmerged], ids=lambda write: write.__name__)
def test_livetalk_makes_the_recorded_latents(golden_file, tmp_path, made_by_the_nodes, write):
    """Free run of eight chunks, past two evictions, timesteps as the published student takes them: within 1e-4."""
    golden = Golden(golden_file("livetalk_tiny.safetensors"))
    latents = golden.config["num_frames"]
    made = made_by_the_nodes(
        write(golden.state(), tmp_path),
        "livetalk",
        latents=latents,
        latent_BCTHW=golden["in.img_lat"][:, :16, :1],
        text_BMD=golden["in.context"],
        tokens_of=lambda _: golden["in.audio_pack"][:, :, 0, 0],
        noise=recorded_noise(golden, chunks=latents // 3, steps=4),
    )
    close(made.transpose(1, 2), golden["out.latents.bf16_timesteps"], 1e-4)


@pytest.mark.parametrize(
    "write",
    [pickled(), pickled("model", "net"), pickled(prefix="_core.")],
    ids=["flat", "model.net", "_core"],
)
def test_lipforcing_makes_the_recorded_latents(golden_file, tmp_path, made_by_the_nodes, write):
    """Six chunks of two steps with window-local positions, as one shot of a video: every latent within 1e-4."""
    golden = Golden(golden_file("lipforcing_tiny.safetensors"))
    start, latents = golden["in.noise"], golden["in.noise"].shape[2]
    parts = {chunk: slice(3 * chunk, 3 * chunk + 3) for chunk in range(latents // 3)}
    draws = {
        (chunk, step): golden[name][:, :, part]
        for chunk, part in parts.items()
        for step, name in enumerate(("in.noise", "in.eps_step1"))
    }
    frames = [numbered(number) for number in range(4 * latents - 3)]
    face = tracked(write_video(tmp_path / "source.mp4", frames))

    def source_of(profile, vae):
        mask = MouthMask.of_picture(golden["in.mask"])
        store = LatentStore(tmp_path / "store", height=start.shape[-2], width=start.shape[-1], limit_bytes=0)
        return SourceVideo(profile, face, vae, torch.float32, mask, SIDE, store)

    from talkstream.nodes.types import SourceVideo

    made = made_by_the_nodes(
        write(golden.state(), tmp_path),
        "auto",
        latents=latents,
        latent_BCTHW=golden["in.ref_latent"],
        text_BMD=golden["in.text_embeds"],
        tokens_of=lambda audio_proj: audio_proj(pack_vectors(golden["in.audio_emb"], prefix_copies=3)),
        noise=RecordedNoise(draws),
        source_of=source_of,
        video=RecordedFaces(golden),
    )
    close(made, golden["out.rollout_window7_sink1_dynamic_rope"], 1e-4)


class RecordedFaces:
    """The recorded latents of a video in place of an open one."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden

    def conditioning(self, segment, *, reference_BCTHW):
        assert segment.first_frame == 0
        assert torch.equal(reference_BCTHW, self.golden["in.ref_latent"])
        return conditioning(self.golden)


def test_the_published_profile_is_the_one_that_a_form_gets(golden_file, tmp_path):
    from talkstream.model_loaders.build import open_student

    lip = Golden(golden_file("lipforcing_tiny.safetensors"))
    chosen = open_student(pickled("net")(lip.state(), tmp_path)).profile
    assert dataclasses.replace(chosen, source="") == LIPFORCING
