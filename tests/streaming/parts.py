"""Small random students and voices for the streaming tests."""

from __future__ import annotations

import torch

from talkstream.audio.sources import ClipSource
from talkstream.networks.profile import MelProfile, SpeechProfile, StudentProfile
from talkstream.networks.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from talkstream.networks.wan import WanConfig, WanModel
from talkstream.samplers.noise import SeededNoise
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.network import LocalNetwork
from talkstream.streaming.reference import ReferenceLatents
from talkstream.streaming.session import StreamSession
from talkstream.streaming.spec import StreamSpec
from talkstream.streaming.speech import MelSpeech

WIDTH = 16
RATE = 22050


def profile(**changes) -> StudentProfile:
    """A student like the Mini, 32 pixels wide."""
    mel = MelProfile(
        bins=20,
        lowest_hz=60.0,
        highest_hz=7600.0,
        pcen_gain=0.95,
        pcen_bias=1.0,
        pcen_power=0.4,
        pcen_seconds=1.5,
        pcen_eps=0.02,
    )
    settings = {
        "name": "tiny",
        "speech": SpeechProfile("mel", 1, WIDTH, ahead_seconds=0.12, mel=mel),
        "sigmas": (1.0, 0.8, 0.0),
        "fps_num": 25,
        "width": 32,
        "height": 32,
        "history": 3,
        "sink": 3,
        "sink_rule": "before_window",
        "text": "null",
    }
    return StudentProfile(**{**settings, **changes})


class Student:
    """Random weights, the same for every session opened on them."""

    def __init__(self, **changes) -> None:
        self.profile = profile(**changes)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            config = WanConfig(
                dim=32, in_dim=33, ffn_dim=48, num_heads=2, num_layers=6, text_dim=8, audio_in=4 * WIDTH
            )
            self.model = WanModel(config)
            for parameter in self.model.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
            self.encoder = SpeechEncoder(
                SpeechEncoderConfig(bins=20, width=WIDTH, hidden=WIDTH, blocks=2, ahead_mel=12)
            )
            self.picture_BCTHW = torch.randn(1, 16, 1, 4, 4)
        self.model.requires_grad_(False)
        self.encoder.requires_grad_(False)

    def speech(self, source) -> MelSpeech:
        return MelSpeech(source, self.encoder, self.model.audio_proj, profile=self.profile.speech)

    def open(
        self, voice_CS=None, *, samples=None, source=None, seed=3, on_step=None, cache_class=None
    ) -> StreamSession:
        """A session on a finished voice, or on a live source. cache_class: of a cache to use for the ring."""
        own = self.profile
        spec = StreamSpec(
            profile=own,
            schedule=Schedule.from_sigmas(own.sigmas),
            cache_spec=own.cache_spec,
            latent_height=4,
            latent_width=4,
            samples=None if source is not None else samples or voice_CS.shape[-1],
            sample_rate=RATE,
        )
        network = LocalNetwork(self.model)
        cache = network.make_cache(spec.cache_spec, spec.grid)
        if cache_class is not None:
            sizes = {"layers": len(self.model.blocks), "dim": self.model.dim, "heads": self.model.num_heads}
            cache = cache_class(spec.cache_spec, grid=spec.grid, dtype=network.dtype, **sizes)
        return StreamSession(
            spec,
            network,
            cache=cache,
            speech=self.speech(source or ClipSource(voice_CS, RATE)),
            reference=ReferenceLatents.for_profile(self.picture_BCTHW, own),
            noise=SeededNoise(seed),
            source=source,
            on_step=on_step,
        )


def voice(seconds: float, seed: int = 0) -> torch.Tensor:
    """(1, S) of shaped noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, round(seconds * RATE), generator=generator)
    envelope = torch.sin(torch.linspace(0, 20 * seconds, noise.shape[-1])).abs()
    return noise * envelope * 0.2


def latents_of(session: StreamSession) -> torch.Tensor:
    """Everything a session makes, side by side in time."""
    return torch.cat([part.latent_BCTHW for part in session.chunks()], dim=2)
