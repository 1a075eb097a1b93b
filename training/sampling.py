"""Whole clips from exported files, for measurements: the rollout of training, without a session around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..audio.mel import MelFrontEnd
from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.causal_vae import CausalVAE, VAEConfig, denormalise_latents
from ..networks.profile import METADATA_KEY, StudentProfile
from ..networks.speech_encoder import MEL_PER_FRAME
from ..samplers.schedule import Schedule
from ..streaming.decoder import StreamingDecoder
from ..streaming.mouth_mask import MouthMask
from .codec import to_tensor
from .conditions import Condition, LipSyncCondition, PortraitCondition
from .data import encode_normalised
from .export import SPEECH_PREFIX
from .mini import MEL, NETWORK, SPEECH
from .precision import half_precision
from .rollout import Rollout
from .student import TrainableStudent


@dataclass(frozen=True)
class Mini:
    """A student, its codec and its profile, ready to sample in float32 weights on the device where both lie."""

    student: TrainableStudent
    vae: CausalVAE
    profile: StudentProfile


def load_codec_file(path: Path) -> CausalVAE:
    """An exported codec in float32."""
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    vae = CausalVAE(VAEConfig(dim=tensors["decoder.head.0.gamma"].shape[0]))
    vae.load_state_dict(tensors)
    return vae.eval().requires_grad_(False)


def load_mini(
    student_file: Path,
    codec_file: Path,
    *,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> Mini:
    """Read the two files of the Mini, or of its lip-sync sister."""
    student, profile = load_student(student_file)
    student = student.eval().requires_grad_(False).to(device)
    return Mini(student, load_codec_file(codec_file).to(device), profile)


def load_student(path: Path) -> tuple[TrainableStudent, StudentProfile]:
    """An exported student that hears by itself, in float32, and its profile."""
    with safe_open(path, "pt") as file:
        profile = StudentProfile.from_json(file.metadata()[METADATA_KEY])
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    encoder = {k.removeprefix(SPEECH_PREFIX): v for k, v in tensors.items() if k.startswith(SPEECH_PREFIX)}
    network = replace(NETWORK, in_dim=tensors["patch_embedding.weight"].shape[1])
    speech = replace(SPEECH, blocks=sum(name.endswith(".conv.weight") for name in encoder))
    student = TrainableStudent(network, speech, torch.Generator().manual_seed(0))
    student.encoder.load_state_dict(encoder)
    student.network.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(SPEECH_PREFIX)})
    return student, profile


def portrait_condition(mini: Mini, portrait: np.ndarray) -> PortraitCondition:
    """A portrait (H, W, 3) uint8 as the student sees it."""
    return PortraitCondition(encode_normalised(mini.vae, to_tensor(portrait[None, None])))


def video_condition(mini: Mini, video: np.ndarray) -> LipSyncCondition:
    """A video of aligned faces (F, H, W, 3) uint8 as the student sees it; its last frame fills the last chunk up."""
    whole = FRAMES_PER_LATENT * _whole_latents(mini, len(video)) - 3
    pixels = to_tensor(np.pad(video, ((0, whole - len(video)), *[(0, 0)] * 3), mode="edge")[None])
    mask = MouthMask.drawn()
    source, masked = (encode_normalised(mini.vae, frames) for frames in (pixels, mask.blank(pixels)))
    return LipSyncCondition(source, masked, mask.latents(*source.shape[-2:]))


def _whole_latents(mini: Mini, frames: int) -> int:
    """Latents of as many whole chunks as these frames need."""
    chunk = mini.profile.chunk
    return -(-(frames + 3) // (FRAMES_PER_LATENT * chunk)) * chunk


@torch.no_grad()
def sample_latents(
    mini: Mini, samples: np.ndarray, condition: Condition, *, frames: int, seed: int
) -> Tensor:
    """Speech (S,) at 16 kHz and what is seen beside it -> student latents (1, C, T, h, w), T whole chunks."""
    latents = _whole_latents(mini, frames)
    mel_frames = (FRAMES_PER_LATENT * latents - 3) * MEL_PER_FRAME
    needed = mel_frames * MEL.hop_samples
    heard = np.pad(samples, (0, max(0, needed - len(samples))))[:needed]
    device = next(mini.student.parameters()).device
    mel = torch.from_numpy(MelFrontEnd(MEL).whole(heard))[None].to(device)
    with half_precision(device):
        speech = mini.student.features(mel)
    rollout = Rollout(
        mini.student, schedule=Schedule.from_sigmas(mini.profile.sigmas), cache=mini.profile.cache_spec,
        condition=condition.to(device), speech_BTV=speech, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return torch.cat([rollout.next_chunk() for _ in range(latents // mini.profile.chunk)], dim=2)


@torch.no_grad()
def decode_frames(vae: CausalVAE, latents: Tensor) -> Iterator[np.ndarray]:
    """Student latents (1, C, T, h, w) -> frames (F, H, W, 3) uint8, latent by latent."""
    decoder = StreamingDecoder(vae, dtype=torch.bfloat16)
    for latent in denormalise_latents(latents).split(1, dim=2):
        pixels = decoder.decode(latent)
        yield ((pixels.float()[0].permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def sample_frames(
    mini: Mini, samples: np.ndarray, portrait: np.ndarray, *, frames: int, seed: int = 0
) -> np.ndarray:
    """Speech and portrait -> exactly this many frames (F, H, W, 3) uint8."""
    condition = portrait_condition(mini, portrait)
    latents = sample_latents(mini, samples, condition, frames=frames, seed=seed)
    return np.concatenate(list(decode_frames(mini.vae, latents)))[:frames]


def dub_frames(mini: Mini, samples: np.ndarray, video: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Speech and a video of aligned faces (F, H, W, 3) uint8 -> the faces with another mouth, not yet pasted."""
    condition = video_condition(mini, video)
    latents = sample_latents(mini, samples, condition, frames=len(video), seed=seed)
    return np.concatenate(list(decode_frames(mini.vae, latents)))[: len(video)]
