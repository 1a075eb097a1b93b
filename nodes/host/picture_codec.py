"""The host's VAE for students with motion frames: every call is a clip of its own."""

from __future__ import annotations

from comfy.latent_formats import Wan21
from comfy.sd import VAE
from torch import Tensor

from .decoders import HostTinyDecoder
from .vae import HostDecoder


class HostCodec:
    """A PictureCodec. It loads nothing: the VAE is on its device already."""

    def __init__(self, vae: VAE, decoder: HostDecoder | HostTinyDecoder) -> None:
        """vae: encodes, so of Wan 2.1's kind where encode() is called. decoder: open."""
        self._vae, self._decoder = vae, decoder

    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """(1, 3, 4n + 1, H, W) in [-1, 1] -> normalised latents (1, 16, n + 1, H / 8, W / 8)."""
        vae = self._vae
        return Wan21().process_in(
            vae.first_stage_model.encode(video_BCFHW.to(vae.device, vae.vae_dtype)).float()
        )

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents -> (1, 3, 4T - 3, H, W) in [-1, 1], on the CPU."""
        self._decoder.reset()
        return (2 * self._decoder.decode(latents_BCTHW) - 1).movedim(-1, 0)[None]


def encode_bytes(vae: VAE, *, frames: int, latent_height: int, latent_width: int) -> int:
    """Memory the host sets aside to encode this many pictures at once."""
    shape = (1, 3, frames, 8 * latent_height, 8 * latent_width)
    return int(vae.memory_used_encode(shape, vae.vae_dtype))
