"""The references' own weights, written as students are published, through Load Student and the host's network."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from talkstream.networks.audio_pack import pack_vectors
from talkstream.networks.kv_cache import CLEAN_PASS
from talkstream.networks.profile import LIPFORCING, LIVETALK
from talkstream.samplers.few_step import denoise_chunk
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.reference import ReferenceLatents
from talkstream.streaming.session import StreamSession
from talkstream.streaming.spec import StreamSpec
from talkstream.tests.golden.test_livetalk_streaming import GivenSpeech, recorded_noise
from talkstream.tests.golden.wan_golden import Golden, close
from talkstream.tests.model_loaders.test_forms import diffusers_name, nested, write_shards
from talkstream.tests.streaming.parts import latents_of

pytestmark = pytest.mark.host

RATE = 16000


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
def network_of(host):
    """path, profile -> the host's network with the graft, models loaded."""
    from talkstream.nodes.host.graft import HostNetwork
    from talkstream.nodes.host.memory import load_together
    from talkstream.nodes.host.student import load_student

    def load(path, profile, text_BMD):
        model, _ = load_student(path, profile=profile, precision="fp32")
        load_together([model, *model.get_nested_additional_models()], extra_bytes=0)
        return HostNetwork(model, text_BMD=text_BMD)

    return load


@pytest.mark.parametrize("write", [flat, diffusers_shards, unmerged], ids=lambda write: write.__name__)
def test_livetalk_makes_the_recorded_latents(golden_file, tmp_path, network_of, write):
    """Free run of eight chunks, past two evictions: every latent within 1e-4."""
    golden = Golden(golden_file("livetalk_tiny.safetensors"))
    config, path = golden.config, write(golden.state(), tmp_path)
    spec = StreamSpec(
        profile=LIVETALK,
        schedule=Schedule.from_sigmas(LIVETALK.sigmas, rounding="none"),
        cache_spec=LIVETALK.cache_spec,
        latent_height=config["lat_h"],
        latent_width=config["lat_w"],
        samples=(4 * config["num_frames"] - 3) * RATE // config["fps"],
        sample_rate=RATE,
    )
    with torch.inference_mode(), network_of(path, "livetalk", golden["in.context"]) as network:
        session = StreamSession(
            spec,
            network,
            cache=network.make_cache(spec.cache_spec, spec.grid),
            speech=GivenSpeech(golden["in.audio_pack"][:, :, 0, 0]),
            reference=ReferenceLatents.for_profile(golden["in.img_lat"][:, :16, :1], LIVETALK),
            noise=recorded_noise(golden, chunks=config["num_frames"] // 3, steps=spec.schedule.steps),
        )
        made = latents_of(session)
    close(made.transpose(1, 2), golden["out.latents"], 1e-4)


@pytest.mark.parametrize(
    "write",
    [pickled(), pickled("model", "net"), pickled(prefix="_core.")],
    ids=["flat", "model.net", "_core"],
)
def test_lipforcing_makes_the_recorded_latents(golden_file, tmp_path, network_of, write):
    """Six chunks of two steps with window-local positions: every latent within 1e-4."""
    from talkstream.nodes.host.graft import audio_modules

    golden = Golden(golden_file("lipforcing_tiny.safetensors"))
    path = write(golden.state(), tmp_path)
    latents = golden["in.noise"].shape[2]
    mask = (1 - golden["in.mask"])[None, None, None].expand(1, 1, latents, -1, -1)
    reference = golden["in.ref_latent"].expand(-1, -1, latents, -1, -1)
    known = torch.cat([reference, mask, golden["in.masked_video"], golden["in.ref_sequence"]], dim=1)
    done = []
    with torch.inference_mode(), network_of(path, "auto", golden["in.text_embeds"]) as network:
        audio_proj = audio_modules(network.patcher).audio_proj
        tokens = audio_proj(pack_vectors(golden["in.audio_emb"], prefix_copies=3))
        cache = network.make_cache(LIPFORCING.cache_spec, (4, 6))
        for first in range(0, latents, 3):
            part = slice(first, first + 3)
            cache.begin_chunk(3)

            def velocity(x, timestep, step, part=part):
                cache.begin_pass(step)
                x = torch.cat([x, known[:, :, part]], dim=1)
                return network.velocity(x, timestep=timestep, audio_tokens_BTE=tokens[:, part], cache=cache)

            done.append(
                denoise_chunk(
                    velocity,
                    golden["in.noise"][:, :, part],
                    schedule=Schedule.from_sigmas(LIPFORCING.sigmas),
                    renoise=lambda step, part=part: golden[f"in.eps_step{step + 1}"][:, :, part],
                )
            )
            velocity(done[-1], 0.0, CLEAN_PASS)
            cache.end_chunk()
    close(torch.cat(done, dim=2), golden["out.rollout_window7_sink1_dynamic_rope"], 1e-4)


def test_the_published_profile_is_the_one_that_a_form_gets(golden_file, tmp_path):
    from talkstream.model_loaders.build import open_student

    lip = Golden(golden_file("lipforcing_tiny.safetensors"))
    chosen = open_student(pickled("net")(lip.state(), tmp_path)).profile
    assert dataclasses.replace(chosen, source="") == LIPFORCING
