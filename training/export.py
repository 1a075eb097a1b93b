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
from .parallel import is_main
from .sharded_tensors import whole_state
from .student import TrainableStudent

SPEECH_PREFIX = "speech_encoder."
HEAD_WIDTH = 128  # of every Wan network; no tensor of a released file tells it
RELEASED_SLOTS = 4 * 14  # frames of a latent times hidden states of wav2vec2-base


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
    """Write network and speech encoder into one file, with the profile in its metadata.

    All processes call it, since a network may be sharded; the main one writes.
    """
    tensors = whole_state(network.state_dict()) | encoder.state_dict(prefix=SPEECH_PREFIX)
    stored = _zeros_in_bytes(_stored(tensors, dtype))
    if is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(stored, path, metadata={METADATA_KEY: profile.to_json()})


def export_released(
    path: Path, student: TrainableStudent, *, prefix: str = "", dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write a network under the names of the released AudioPack students, LiveTalk (33 channels, 857 tensors at 1.3B)
    and Lip Forcing (65 channels, 1137 at 14B), so that whatever loads those loads it.

    path: .safetensors as LiveTalk's file is, .pt or .pth as Lip Forcing's. prefix: a wrapper in front of every name, as
    training code leaves it ("model.", "_core."); released files have none. All processes call it, the main one writes.

    Raises:
        ValueError: the student could not be read back from such a file, which holds no speech encoder and no profile.
    """
    _check_released(path, student)
    tensors = whole_state(student.network.state_dict())
    if not is_main():
        return
    named = {prefix + name: tensor for name, tensor in _stored(tensors, dtype).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save(named, path)


def _check_released(path: Path, student: TrainableStudent) -> None:
    config = student.network.config
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ValueError(
            f"{path} ends in {path.suffix!r}; released students are .safetensors, .pt or .pth files"
        )
    if any(True for _ in student.encoder.parameters()):
        raise ValueError(
            "the student hears through its own speech encoder, for which a released file has no place; "
            "write it with export_student"
        )
    if config.dim != HEAD_WIDTH * config.num_heads:
        raise ValueError(
            f"the network has {config.num_heads} heads at width {config.dim}; a released file is read with heads of "
            f"{HEAD_WIDTH}: train with {config.dim / HEAD_WIDTH:g}"
        )
    if config.in_dim not in (33, 65) or config.audio_in is None or config.audio_in % RELEASED_SLOTS:
        raise ValueError(
            f"the network has {config.in_dim} input channels and {config.audio_in} audio inputs; released students "
            f"have 33 or 65 channels and hear a multiple of {RELEASED_SLOTS} (four frames of 14 layers)"
        )


def _stored(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in tensors.items()}


def _zeros_in_bytes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices of zeros alone, as a student without a text has, in eight bits: loaders ask for their full size."""
    return {
        name: tensor.to(torch.float8_e4m3fn) if tensor.ndim > 1 and not tensor.any() else tensor
        for name, tensor in tensors.items()
    }
