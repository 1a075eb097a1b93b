"""LiveTalk through the streaming engine: schedule, picture, whole runs of a session, with recorded noise."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from talkstream.audio.rates import latent_frames
from talkstream.media.pictures import fit_picture
from talkstream.networks.causal_vae import CausalVAE, VAEConfig, normalise_latents
from talkstream.networks.profile import LIVETALK
from talkstream.samplers.noise import RecordedNoise
from talkstream.samplers.schedule import Schedule, shifted_sigmas
from talkstream.streaming.network import LocalNetwork
from talkstream.streaming.reference import ReferenceLatents
from talkstream.streaming.session import StreamSession
from talkstream.streaming.spec import StreamSpec
from talkstream.tests.golden.wan_golden import Golden, build, close
from talkstream.tests.streaming.parts import latents_of

RATE = 16000


@pytest.fixture(scope="module")
def golden(golden_file) -> Golden:
    return Golden(golden_file("livetalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def frontend(golden_file) -> Golden:
    return Golden(golden_file("livetalk_tiny_frontend.safetensors"))


class GivenSpeech:
    """Audio tokens of a whole clip, made beforehand."""

    def __init__(self, tokens_BTE: Tensor) -> None:
        self.tokens_BTE = tokens_BTE

    def tokens(self, first_latent: int, latents: int) -> Tensor:
        return self.tokens_BTE[:, first_latent : first_latent + latents]


def recorded_noise(golden: Golden, *, chunks: int, steps: int) -> RecordedNoise:
    """The reference's draws: one tensor for the start, one per chunk and step after."""
    start = golden["in.noise"].transpose(1, 2)
    draws = {(b, 0): start[:, :, 3 * b : 3 * b + 3] for b in range(chunks)}
    for b in range(chunks):
        for s in range(steps - 1):
            draws[b, s + 1] = golden[f"renoise.b{b}.s{s}"].transpose(0, 1)[None]
    return RecordedNoise(draws)


def open_session(golden: Golden, *, rounding: str, history: int, sink: int, **kept: object) -> StreamSession:
    """LiveTalk's profile on the golden's weights and sizes. kept: where or how the cache keeps its past."""
    config, model = golden.config, build(golden)
    latents = config["num_frames"]
    profile = dataclasses.replace(LIVETALK, history=history, sink=sink)
    spec = StreamSpec(
        profile=profile,
        schedule=Schedule.from_sigmas(profile.sigmas, rounding=rounding),
        cache_spec=profile.cache_spec,
        latent_height=config["lat_h"],
        latent_width=config["lat_w"],
        samples=(4 * latents - 3) * RATE // config["fps"],
        sample_rate=RATE,
    )
    network = LocalNetwork(model, text_BMD=golden["in.context"])
    return StreamSession(
        spec,
        network,
        cache=network.make_cache(spec.cache_spec, spec.grid, **kept),
        speech=GivenSpeech(golden["in.audio_pack"][:, :, 0, 0]),
        reference=ReferenceLatents.for_profile(golden["in.img_lat"][:, :16, :1], profile),
        noise=recorded_noise(golden, chunks=latents // 3, steps=spec.schedule.steps),
    )


@pytest.mark.parametrize(
    ("name", "rounding", "history", "sink"),
    [
        ("out.latents", "none", 3, 9),
        ("out.latents.bf16_timesteps", "bf16", 3, 9),
        ("out.latents.full_cache", "none", 21, 0),
        ("out.latents.local15_sink0", "none", 12, 0),
    ],
)
def test_a_session_makes_the_recorded_latents(golden, name, rounding, history, sink):
    """Free run of eight chunks, past two evictions: every latent within 1e-4."""
    session = open_session(golden, rounding=rounding, history=history, sink=sink)
    close(latents_of(session).transpose(1, 2), golden[name], 1e-4)


def test_a_past_in_eight_bits_stays_near_the_recorded_latents(golden):
    """The clean cache of the free run, rounded: off by more than the exact one may be, by less than 0.02 (std 1)."""
    session = open_session(golden, rounding="none", history=3, sink=9, eight_bit=True)
    error = (latents_of(session).transpose(1, 2) - golden["out.latents"]).abs().max()
    assert 1e-4 < float(error) < 0.02


def test_conditioning_channels_are_the_recorded_ones(golden):
    """Picture on every latent, mask 0 at latent 0 alone."""
    recorded = golden["in.img_lat"]
    reference = ReferenceLatents.for_profile(recorded[:, :16, :1], LIVETALK)
    parts = [reference.channels(first, 3) for first in range(0, recorded.shape[2], 3)]
    assert torch.equal(torch.cat(parts, dim=2), recorded)


def test_schedule_constants(golden):
    """Exact sigmas beside timesteps rounded to bf16; shift 5 gives the same list."""
    exact = Schedule.from_sigmas(LIVETALK.sigmas)
    close(torch.tensor(exact.sigmas[:-1]), golden["sched.sigmas"], 1e-6)
    close(torch.tensor(exact.timesteps), golden["sched.timesteps"], 1e-3)
    assert Schedule.from_sigmas(LIVETALK.sigmas, rounding="bf16").timesteps == (1000, 936, 832, 624)
    assert shifted_sigmas(4, 5.0) == pytest.approx(LIVETALK.sigmas, abs=1e-12)


def test_the_picture_is_fitted_and_encoded_as_recorded(frontend):
    """Cover-resize and crop within 2e-6, its latent within 1e-4."""
    recorded = frontend["image.preprocessed"]
    height, width = recorded.shape[-2:]
    picture = fit_picture(frontend["image.rgb_u8"][None] / 255, width=width, height=height, fit="cover")
    pixels = picture.movedim(-1, 1)[:, :, None] * 2 - 1
    close(pixels, recorded, 2e-6)
    vae = wan_vae(frontend)
    with torch.no_grad():
        latent = normalise_latents(vae.encode(pixels))
    close(latent, frontend["image.img_lat"][:, :16, :1], 1e-4)


def test_chunks_hear_the_frames_that_they_show():
    """Chunk b covers frames 12b - 3 .. 12b + 8."""
    assert latent_frames(0, 3) == range(9)
    assert [latent_frames(3 * b, 3) for b in (1, 2, 9)] == [range(12 * b - 3, 12 * b + 9) for b in (1, 2, 9)]


def wan_vae(frontend: Golden) -> CausalVAE:
    """The golden's VAE in our module tree."""
    vae = CausalVAE(VAEConfig(dim=frontend["vae.decoder.head.0.gamma"].shape[0]))
    vae.load_state_dict(frontend.state("vae."), strict=True)
    return vae.requires_grad_(False)
