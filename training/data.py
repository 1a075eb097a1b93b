"""Drawn clips -> what students train on: latents, mel frames, true mouths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..audio.mel import MelFrontEnd, MelSettings
from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.causal_vae import CausalVAE, normalise_latents
from ..networks.speech_encoder import MEL_PER_FRAME
from .augment import augment
from .codec import to_tensor
from .export import fold_latent_statistics
from .world.dataset import Dataset


@dataclass(frozen=True)
class LatentBank:
    """Whole clips: latents (N, C, T, H, W) float16 in student units, mel (N, V, 4F, bins) float16 with V versions of
    the same speech (the first is clean), mouth (N, F, 5) float32; F = 4T - 3.
    """

    latents: np.ndarray
    mel: np.ndarray
    mouth: np.ndarray


@torch.no_grad()
def encode_clips(vae: CausalVAE, frames: np.ndarray) -> Tensor:
    """(N, F, H, W, 3) uint8 -> raw latents (N, C, T, h, w) float32, clip by clip."""
    device = vae.conv1.weight.device
    latents = []
    for clip in frames:
        with torch.autocast(device.type, torch.bfloat16):
            latents.append(vae.encode(to_tensor(clip[None]).to(device)).float().cpu())
    return torch.cat(latents)


def freeze_codec(vae: CausalVAE, frames: np.ndarray) -> None:
    """Give the codec's latents Wan's statistics, as measured on these clips (N, F, H, W, 3)."""
    latents = encode_clips(vae, frames)
    axes = (0, 2, 3, 4)
    fold_latent_statistics(vae, latents.mean(axes), latents.std(axes))


def mel_versions(samples: np.ndarray, front_end: MelFrontEnd, *, versions: int, seed: int) -> np.ndarray:
    """(S,) -> (V, 4F, bins) float16: the clean speech, then augmented ones."""
    random = np.random.default_rng(seed)
    waves = [samples.astype(np.float32)]
    waves += [augment(waves[0], random) for _ in range(versions - 1)]
    return np.stack([front_end.whole(wave) for wave in waves]).astype(np.float16)


def make_latent_bank(data: Dataset, vae: CausalVAE, mel: MelSettings, *, versions: int) -> LatentBank:
    """Encode every clip with a codec whose statistics are folded."""
    front_end = MelFrontEnd(mel)
    latents = [normalise_latents(encode_clips(vae, clip[None]))[0].half().numpy() for clip in data.frames]
    spectra = [
        mel_versions(samples, front_end, versions=versions, seed=index)
        for index, samples in enumerate(data.samples)
    ]
    return LatentBank(np.stack(latents), np.stack(spectra), np.array(data.mouth))


def save_bank(path: Path, bank: LatentBank) -> None:
    """Write a bank as one npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, latents=bank.latents, mel=bank.mel, mouth=bank.mouth)


def load_bank(path: Path) -> LatentBank:
    """Read what save_bank wrote."""
    with np.load(path) as arrays:
        return LatentBank(arrays["latents"], arrays["mel"], arrays["mouth"])


@dataclass(frozen=True)
class Batch:
    """Clips for one update: latents (B, C, T, H, W), mel (B, 4F, bins), both float32."""

    latents: Tensor
    mel: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(self.latents.to(device), self.mel.to(device))


def draw_batch(bank: LatentBank, random: np.random.Generator, *, clips: int, latents: int) -> Batch:
    """Random clips from their start, cut to a number of latents, each with a random version of its speech."""
    chosen = random.integers(len(bank.latents), size=clips)
    versions = random.integers(bank.mel.shape[1], size=clips)
    mel_frames = (FRAMES_PER_LATENT * latents - 3) * MEL_PER_FRAME
    pictures = torch.from_numpy(bank.latents[chosen][:, :, :latents]).float()
    return Batch(pictures, torch.from_numpy(bank.mel[chosen, versions][:, :mel_frames]).float())
