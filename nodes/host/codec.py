"""The host's VAE for students that start each chunk from pictures: whole chunks to pictures and back."""

from __future__ import annotations

import torch
from comfy.sd import VAE
from torch import Tensor

from .vae import encode_picture, to_vae_space


class HostCodec:
    """A VAE of the host as the engine's PictureCodec. The host loads it for each call and decides about memory."""

    def __init__(self, vae: VAE) -> None:
        self._vae = vae

    @torch.no_grad()
    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """(1, 3, 4n + 1, H, W) in [-1, 1] -> normalised latents (1, 16, n + 1, H / 8, W / 8), float32."""
        pictures_FHWC = (video_BCFHW[0].float().movedim(0, -1) + 1) / 2
        return encode_picture(self._vae, pictures_FHWC)

    @torch.no_grad()
    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents -> (1, 3, 4T - 3, H, W) in [-1, 1], float32."""
        pictures_FHWC = self._vae.decode(to_vae_space(latents_BCTHW))[0]
        return pictures_FHWC.float().movedim(-1, 0)[None] * 2 - 1
