"""A student with motion frames on its own speech path: live and finished voices, prefixes, several speakers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from talkstream.audio.sources import ClipSource, LiveSource
from talkstream.networks.multitalk import MultiTalkConfig
from talkstream.networks.multitalk_profiles import FLASHTALK
from talkstream.networks.wan import WanConfig, WanModel
from talkstream.networks.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from talkstream.samplers.noise import SeededNoise
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.motion import MotionSpec, encode_conditioning
from talkstream.streaming.motion_pictures import ChunkPictures
from talkstream.streaming.motion_session import MotionSession
from talkstream.streaming.network import LocalNetwork
from talkstream.streaming.speech_multitalk import MultiTalkSpeech, WholeVoice, WindowedVoice
from talkstream.streaming.speech_wav2vec import encoder_from_modules

RATE = 22050
SPEECH = dataclasses.replace(
    FLASHTALK.speech, feature_slots=2, feature_width=16, past_seconds=0.6, loudness_lufs=-23.0
)
PROFILE = dataclasses.replace(
    FLASHTALK, speech=SPEECH, sigmas=(1.0, 0.8, 0.0), width=32, height=32, chunk=3, condition_latents=3
)


class FlatCodec:
    """Eight by eight pixels and four frames become one number per channel, and back."""

    def encode(self, video_BCFHW: Tensor) -> Tensor:
        small = torch.nn.functional.avg_pool3d(video_BCFHW, (1, 8, 8))
        pooled = torch.cat([small[:, :, :1], small[:, :, 1:].unflatten(2, (-1, 4)).mean(3)], dim=2)
        return pooled.repeat(1, 6, 1, 1, 1)[:, :16]

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        small = latents_BCTHW[:, :3]
        frames = torch.cat([small[:, :, :1], small[:, :, 1:].repeat_interleave(4, dim=2)], dim=2)
        return frames.repeat_interleave(8, dim=3).repeat_interleave(8, dim=4)


class Student:
    """Random weights, the same for every session."""

    def __init__(self) -> None:
        config = MultiTalkConfig(slots=2, slot_width=16, hidden=8, tokens=4, token_width=12)
        with torch.random.fork_rng():
            torch.manual_seed(11)
            self.model = WanModel(
                WanConfig(
                    dim=32,
                    in_dim=36,
                    ffn_dim=48,
                    num_heads=2,
                    num_layers=2,
                    text_dim=8,
                    image_in=6,
                    multitalk=config,
                )  # fmt: skip
            )
            encoder = Wav2Vec2(Wav2Vec2Config(conv_width=8, width=16, heads=2, layers=2, ffn_width=16,
                                              position_kernel=8, position_groups=2))  # fmt: skip
            for parameter in (*self.model.parameters(), *encoder.parameters()):
                torch.nn.init.normal_(parameter, std=0.3)
            self.picture = torch.rand(1, 3, 32, 32) * 2 - 1
            self.text, self.image = torch.randn(1, 4, 8), torch.randn(1, 5, 6)
        self.model.requires_grad_(False)
        self.encoder = encoder_from_modules(encoder.eval().requires_grad_(False))

    def open(self, voices, *, samples, source=None, masks=None) -> MotionSession:
        codec = FlatCodec()
        return MotionSession(
            MotionSpec(PROFILE, Schedule.from_sigmas(PROFILE.sigmas), 4, 4, samples, RATE),
            LocalNetwork(self.model, text_BMD=self.text, image_BMC=self.image),
            pictures=ChunkPictures(codec, self.picture, colour_match=1.0),
            speech=MultiTalkSpeech(voices, self.model.audio_proj),
            conditioning=encode_conditioning(self.picture, codec, latents=3),
            noise=SeededNoise(4),
            masks_PL=masks,
            source=source,
        )

    def windowed(self, source) -> WindowedVoice:
        return WindowedVoice(source, self.encoder, profile=SPEECH, fps_num=25)


@pytest.fixture(scope="module")
def student() -> Student:
    return Student()


def voice(frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(1, frames * RATE // 25, generator=generator)


def shown(session: MotionSession) -> list[Tensor]:
    """What is shown of every chunk that can be made now."""
    return [
        session.pictures.of(part.latent_BCTHW)[:, :, part.skip : part.skip + part.frames]
        for part in session.chunks()
    ]


def pictures(session: MotionSession) -> Tensor:
    return torch.cat(shown(session), dim=2)


def test_a_live_voice_makes_the_same_pictures(student):
    """Pushed in odd pieces, with old samples dropped: bit for bit the finished clip, to its last frame."""
    clip = voice(19)
    whole = pictures(student.open([student.windowed(ClipSource(clip, RATE))], samples=clip.shape[-1]))
    assert whole.shape[2] == 19
    source = LiveSource(RATE)
    session = student.open([student.windowed(source)], samples=None, source=source)
    parts = []
    for piece in clip.split(2999, dim=-1):
        session.push(piece)
        parts += shown(session)
    assert len(parts) >= 1
    session.finish()
    parts += shown(session)
    assert torch.equal(torch.cat(parts, dim=2), whole)
    with pytest.raises(ValueError, match="cannot be heard twice"):
        session.reset()


def test_a_longer_voice_begins_alike(student):
    """What is said later changes no chunk that ends before it; a frame of margin for the resampling."""
    long, short = voice(20), voice(20)[..., : 9 * RATE // 25]
    made = [pictures(student.open([student.windowed(ClipSource(clip, RATE))], samples=clip.shape[-1]))
            for clip in (long, short)]  # fmt: skip
    assert made[1].shape[2] == 9 and torch.equal(made[0][:, :, :8], made[1][:, :, :8])


def test_two_speakers_and_a_silent_one(student):
    """Another second voice changes the pictures; swapping masks does too. Whole clips, three masks."""
    clips = [voice(8, 1), voice(8, 2), 0 * voice(8)]
    masks = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]])

    def made(first: int, second: int, rows: list[int]) -> Tensor:
        voices = [
            WholeVoice(ClipSource(clips[i], RATE), student.encoder, profile=SPEECH, frames=13, fps_num=25)
            for i in (first, second)
        ]
        return pictures(student.open(voices, samples=clips[0].shape[-1], masks=masks[rows]))

    both, silent, swapped = made(0, 1, [0, 1, 2]), made(0, 2, [0, 1, 2]), made(0, 1, [1, 0, 2])
    assert bool(torch.isfinite(both).all())
    assert (both - silent).abs().max() > 1e-4 and (both - swapped).abs().max() > 1e-6
    assert torch.equal(both, made(0, 1, [0, 1, 2]))
