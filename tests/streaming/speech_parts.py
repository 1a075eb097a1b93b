"""A small random wav2vec2, a student's audio layers, and the plain computation they are checked against."""

from __future__ import annotations

import librosa
import numpy as np
import torch

from talkstream.audio.windows import clip_samples
from talkstream.networks.audio_pack import AudioPack, pack_vectors
from talkstream.networks.profile import SpeechProfile
from talkstream.networks.wav2vec2 import Wav2Vec2, Wav2Vec2Config

CONFIG = Wav2Vec2Config(
    conv_width=8, width=32, heads=2, layers=3, ffn_width=48, position_kernel=16, position_groups=4
)
PROFILE = SpeechProfile("wav2vec2", CONFIG.layers + 2, CONFIG.width, past_seconds=2.0, ahead_seconds=0.25)


def random_wav2vec2(config: Wav2Vec2Config = CONFIG) -> Wav2Vec2:
    torch.manual_seed(7)
    model = Wav2Vec2(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
    return model.eval().requires_grad_(False)


def random_audio_proj(width: int = PROFILE.features, out: int = 32) -> AudioPack:
    torch.manual_seed(8)
    pack = AudioPack(4 * width, out)
    for parameter in pack.parameters():
        torch.nn.init.normal_(parameter, std=0.5 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
    return pack.requires_grad_(False)


def voice(rate: int, seconds: float, channels: int = 1, *, seed: int = 0) -> torch.Tensor:
    """(C, S): noise whose loudness rises and falls, quiet first, with an offset."""
    generator = torch.Generator().manual_seed(seed)
    samples = int(rate * seconds)
    time = torch.arange(samples) / rate
    envelope = 0.02 + 0.3 * (time / seconds) * torch.sin(time * 7).abs()
    return torch.randn(channels, samples, generator=generator) * envelope + 0.01


def plain_tokens(
    clip_CS, rate, model, audio_proj, *, latents, fps, uncovered_frames=1, late=0
) -> torch.Tensor:
    """What the published pipelines compute, everything at once: resample, normalise, all states, pack, project."""
    mono = clip_CS.mean(0).numpy()
    mono = (
        librosa.resample(mono, orig_sr=rate, target_sr=16000, res_type="soxr_hq") if rate != 16000 else mono
    )
    vectors = 4 * latents - 3
    length = clip_samples(vectors, uncovered_frames=uncovered_frames, fps_num=fps)
    mono = mono[:length]
    mono = (mono - mono.mean(dtype=np.float64)) / np.sqrt(mono.var(dtype=np.float64) + 1e-7)
    wave = torch.zeros(length)
    wave[: len(mono)] = torch.from_numpy(mono.astype(np.float32))
    states = model(wave[None], vectors=vectors)
    features = torch.cat([states[-1], *states], dim=-1)
    silent = torch.zeros_like(features[:, :late])
    return audio_proj(pack_vectors(torch.cat([silent, features], dim=1)[:, :vectors]))
