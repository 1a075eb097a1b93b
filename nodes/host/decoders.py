"""Which decoder shows a stream: the VAE the student was trained with, or a tiny one of the same latents."""

from __future__ import annotations

from pathlib import Path

import torch
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV

from ...networks.memory_plan import decoder_bytes
from ...streaming.tiny_decoder import TinyDecoder, carried_bytes
from .vae import LATENT_CHANNELS, MINI, HostDecoder, check_vae, to_vae_space

AUTO, RAW = "auto", "raw"
_PIXELS, _FRAMES = 8, 4


def is_tiny(vae: VAE) -> bool:
    """Whether a VAE is of the TAEHV family."""
    return isinstance(getattr(vae, "first_stage_model", None), TAEHV)


def check_decoder(vae: VAE, *, student: str) -> None:
    """Raises ValueError, in one sentence, for a VAE that cannot show a student's latents. student: its name."""
    if not is_tiny(vae):
        check_vae(vae, student=student)
        return
    network = vae.first_stage_model
    if network.latent_channels != LATENT_CHANNELS or network.t_upscale != _FRAMES:
        raise ValueError(
            f"got a tiny decoder of {network.latent_channels} channels, expected one of Wan 2.1 (16 channels, 4 frames "
            "per latent): taew2_1 or lighttaew2_1"
        )
    if student.startswith(MINI):
        raise ValueError(
            "got a tiny decoder of Wan 2.1 for TalkStream Mini, whose latents it cannot show; load "
            "talkstream_mini_vae, which is as small"
        )


def latents_are_raw(vae: VAE, scale: str) -> bool:
    """Whether a tiny decoder was trained on the VAE's own latents instead of normalised ones.

    scale: "auto", "normalised" or "raw". The two published kinds have the same tensors: auto goes by the name of the
    file, else by what the host took from its number format (float16 for taew2_1).
    """
    if scale != AUTO:
        return scale == RAW
    name = file_name(vae)
    if "taew" in name:
        return "lighttae" in name
    return vae.first_stage_model.latent_format is None


def file_name(vae: VAE) -> str:
    """Name of the file that core's Load VAE read, in small letters; empty where another node made the VAE."""
    _, arguments = getattr(vae.patcher, "cached_patcher_init", None) or (None, ())
    return Path(arguments[0]).name.lower() if arguments and isinstance(arguments[0], str) else ""


class HostTinyDecoder:
    """A tiny decoder with carried state. A context manager: closing frees the state."""

    def __init__(self, vae: VAE, *, scale: str = AUTO) -> None:
        self.vae, self._raw = vae, latents_are_raw(vae, scale)
        self._decoder: TinyDecoder | None = None

    def __enter__(self) -> HostTinyDecoder:
        network = self.vae.first_stage_model
        self._decoder = TinyDecoder(
            network.decoder, first_frames_dropped=network.frames_to_trim, pixels=network.patch_size
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder = None

    def reset(self) -> None:
        """The next latent starts a clip of its own."""
        self._decoder.reset()

    def decode(self, latent_BCTHW: torch.Tensor) -> torch.Tensor:
        """The network's latents (1, 16, T, H, W) -> pictures (F, H, W, 3), float32 in [0, 1] on the CPU."""
        latents = to_vae_space(latent_BCTHW) if self._raw else latent_BCTHW
        video_BCFHW = self._decoder.decode(latents.to(self.vae.device, self.vae.vae_dtype))
        return video_BCFHW.float().cpu()[0].movedim(0, -1).clamp(0.0, 1.0)


def open_decoder(
    vae: VAE, *, dtype: torch.dtype, exact: bool, scale: str = AUTO
) -> HostDecoder | HostTinyDecoder:
    """The decoder of a VAE. dtype, exact: as HostDecoder takes them. scale: of a tiny one's latents."""
    return HostTinyDecoder(vae, scale=scale) if is_tiny(vae) else HostDecoder(vae, dtype=dtype, exact=exact)


def kept_bytes(vae: VAE, *, dtype: torch.dtype, latent_height: int, latent_width: int) -> int:
    """Bytes that a stream's decoder carries from chunk to chunk."""
    size = {"latent_height": latent_height, "latent_width": latent_width}
    network = vae.first_stage_model
    if is_tiny(vae):
        return carried_bytes(network.decoder, itemsize=vae.vae_dtype.itemsize, **size)
    return decoder_bytes(network, itemsize=dtype.itemsize, **size)
