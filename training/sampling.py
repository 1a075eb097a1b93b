"""Whole clips from exported files, for measurements: the rollout of training, without a session around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..audio.mel import MelFrontEnd
from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.causal_vae import CausalVAE, VAEConfig, denormalise_latents, normalise_latents
from ..networks.profile import METADATA_KEY, StudentProfile
from ..networks.speech_encoder import MEL_PER_FRAME
from ..samplers.schedule import Schedule
from ..streaming.decoder import StreamingDecoder
from .codec import to_tensor
from .mini import MEL, NETWORK, SPEECH
from .rollout import Rollout
from .student import TrainableStudent


@dataclass(frozen=True)
class Mini:
    """A student, its codec and its profile, ready to sample on the CPU in float32 weights."""

    student: TrainableStudent
    vae: CausalVAE
    profile: StudentProfile


def load_codec_file(path: Path) -> CausalVAE:
    """An exported codec in float32."""
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    vae = CausalVAE(VAEConfig(dim=tensors["decoder.head.0.gamma"].shape[0]))
    vae.load_state_dict(tensors)
    return vae.eval().requires_grad_(False)


def load_mini(student_file: Path, codec_file: Path) -> Mini:
    """Read the two files of the Mini."""
    with safe_open(student_file, "pt") as file:
        profile = StudentProfile.from_json(file.metadata()[METADATA_KEY])
    student = TrainableStudent(NETWORK, SPEECH, torch.Generator().manual_seed(0))
    tensors = {name: tensor.float() for name, tensor in load_file(student_file).items()}
    encoder = {
        k.removeprefix("speech_encoder."): v for k, v in tensors.items() if k.startswith("speech_encoder.")
    }
    student.encoder.load_state_dict(encoder)
    student.network.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("speech_encoder.")})
    return Mini(student.eval().requires_grad_(False), load_codec_file(codec_file), profile)


@torch.no_grad()
def sample_latents(
    mini: Mini, samples: np.ndarray, portrait: np.ndarray, *, frames: int, seed: int
) -> Tensor:
    """Speech (S,) at 16 kHz and a portrait (H, W, 3) uint8 -> student latents (1, C, T, h, w), T whole chunks."""
    chunk = mini.profile.chunk
    latents = -(-(frames + 3) // (FRAMES_PER_LATENT * chunk)) * chunk
    mel_frames = (FRAMES_PER_LATENT * latents - 3) * MEL_PER_FRAME
    needed = mel_frames * MEL.hop_samples
    heard = np.pad(samples, (0, max(0, needed - len(samples))))[:needed]
    mel = torch.from_numpy(MelFrontEnd(MEL).whole(heard))[None]
    with torch.autocast("cpu", torch.bfloat16):
        tokens = mini.student.audio_tokens(mel)
        reference = mini.vae.encode(to_tensor(portrait[None, None]))
    rollout = Rollout(
        mini.student, schedule=Schedule.from_sigmas(mini.profile.sigmas), cache=mini.profile.cache_spec,
        reference_BC1HW=normalise_latents(reference.float()), tokens_BTE=tokens,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return torch.cat([rollout.next_chunk() for _ in range(latents // chunk)], dim=2)


@torch.no_grad()
def decode_frames(vae: CausalVAE, latents: Tensor) -> Iterator[np.ndarray]:
    """Student latents (1, C, T, h, w) -> frames (F, H, W, 3) uint8, latent by latent."""
    decoder = StreamingDecoder(vae, dtype=torch.bfloat16)
    for latent in denormalise_latents(latents).split(1, dim=2):
        pixels = decoder.decode(latent)
        yield ((pixels.float()[0].permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def sample_frames(
    mini: Mini, samples: np.ndarray, portrait: np.ndarray, *, frames: int, seed: int = 0
) -> np.ndarray:
    """Speech and portrait -> exactly this many frames (F, H, W, 3) uint8."""
    latents = sample_latents(mini, samples, portrait, frames=frames, seed=seed)
    return np.concatenate(list(decode_frames(mini.vae, latents)))[:frames]
