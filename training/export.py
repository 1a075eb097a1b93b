"""What ships: students and codecs as safetensors files under the names that loaders expect."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..networks.causal_vae import WAN_LATENT_MEAN, WAN_LATENT_STD, CausalVAE
from ..networks.profile import METADATA_KEY, StudentProfile
from ..networks.speech_encoder import SpeechEncoder
from ..networks.wan import WanModel

SPEECH_PREFIX = "speech_encoder."


@torch.no_grad()
def fold_latent_statistics(vae: CausalVAE, mean: Tensor, std: Tensor) -> None:
    """Change the codec's two 1x1x1 convolutions in place so that its latents have Wan's statistics.

    mean, std: (C,), of the codec's own latents before the change. Pictures stay the same.
    """
    wan_mean, wan_std = torch.tensor(WAN_LATENT_MEAN), torch.tensor(WAN_LATENT_STD)
    channels = vae.config.latent_channels
    gain = wan_std / std
    out = vae.conv1
    out.bias[:channels] = (out.bias[:channels] - mean) * gain + wan_mean
    out.weight[:channels] *= gain.view(-1, 1, 1, 1, 1)
    back = vae.conv2
    shift = mean - wan_mean / gain
    back.bias += back.weight[:, :, 0, 0, 0] @ shift
    back.weight /= gain.view(1, -1, 1, 1, 1)


def export_codec(path: Path, vae: CausalVAE, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a codec whose latent statistics are folded, under the published Wan 2.1 VAE's names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in vae.state_dict().items()}, path)


def export_refiner(path: Path, vae: CausalVAE, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a codec's decoder alone, as Load VAE Refiner takes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = vae.decoder.state_dict(prefix="decoder.")
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, path)


def export_student(
    path: Path,
    network: WanModel,
    encoder: SpeechEncoder,
    profile: StudentProfile,
    *,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write network and speech encoder into one file, with the profile in its metadata."""
    tensors = network.state_dict() | encoder.state_dict(prefix=SPEECH_PREFIX)
    path.parent.mkdir(parents=True, exist_ok=True)
    narrow = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    save_file(narrow, path, metadata={METADATA_KEY: profile.to_json()})
