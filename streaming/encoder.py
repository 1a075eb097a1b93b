"""Frames to latents while they arrive: the Wan 2.1 video encoder with its past carried along.

The stream's first frame is a latent of its own, every further four frames are one. Frames pass in the order and in
the pairs of Wan 2.1's cached encode (Wan-Video, vae.py), each latent as soon as its frames are there, so any chunking
of a stream gives the same bits, and a whole encode of the same frames gives them too: exactly with the VAE's own
layers (`exact`) on one thread of a CPU, within rounding elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .carried import CausalWalk, check_tree, per_frame

PAIR = 2  # frames that the high-resolution layers take at a time
FRAMES_PER_LATENT = 4


class StreamingEncoder(CausalWalk):
    """One stream's encoder: the VAE's weights, and what the stream remembers.

    encode() gives latents in the VAE's own units: the posterior's mean, as networks.causal_vae.CausalVAE.encode.
    """

    def __init__(
        self,
        vae: nn.Module,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        exact: bool = False,
    ) -> None:
        """vae: has encoder and conv1, as CausalVAE and ComfyUI's WanVAE do. The rest as StreamingDecoder takes it."""
        check_tree(vae, "encoder", "conv1", "downsamples")
        super().__init__(vae, ("encoder", "conv1"), device=device, dtype=dtype, exact=exact)

    @torch.inference_mode()
    def encode(self, frames_BCFHW: Tensor) -> Tensor:
        """Next frames of the stream (1, 3, F, 8H, 8W) in [-1, 1] -> latents (1, 16, T, H, W).

        F = 4 T, and 3 fewer at the start of the stream. Raises ValueError for another number of frames or sides that
        are no multiples of 8.
        """
        first = 1 if self.position == 0 else 0
        count, height, width = frames_BCFHW.shape[2:]
        if count < 1 or (count - first) % FRAMES_PER_LATENT or height % 8 or width % 8:
            raise ValueError(
                f"cannot encode {tuple(frames_BCFHW.shape)} here: expected {first} + 4 n frames and sides that are "
                "multiples of 8"
            )
        parts = [1] * first + [FRAMES_PER_LATENT] * ((count - first) // FRAMES_PER_LATENT)
        frames = frames_BCFHW.to(self.device, self.dtype)
        return torch.cat([self._encode_one(part) for part in frames.split(parts, dim=2)], dim=2)

    def _encode_one(self, frames_BCFHW: Tensor) -> Tensor:
        encoder = self.vae.encoder
        pairs = frames_BCFHW.split(PAIR, dim=2)
        x = torch.cat([self._until_first_halving(pair) for pair in pairs], dim=2)
        for layer in list(encoder.downsamples)[self._halving + 1 :]:
            x = self._downsample(layer, x) if hasattr(layer, "resample") else self.block(layer, x)
        for layer in encoder.middle:
            x = self.block(layer, x)
        latent = self.vae.conv1(self.sequence(encoder.head, x))
        self.position += 1
        return latent.chunk(2, dim=1)[0]

    @property
    def _halving(self) -> int:
        """Place of the first layer that makes one frame of two."""
        layers = self.vae.encoder.downsamples
        return next(i for i, layer in enumerate(layers) if getattr(layer, "time_conv", None) is not None)

    def _until_first_halving(self, x: Tensor) -> Tensor:
        """The layers at the full frame rate, and the one that halves it: two frames (or the first) -> one."""
        encoder = self.vae.encoder
        x = self.convolve(encoder.conv1, x)
        for layer in list(encoder.downsamples)[: self._halving + 1]:
            x = self._downsample(layer, x) if hasattr(layer, "resample") else self.block(layer, x)
        return x

    def _downsample(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Half the height and width; half the frames where it is temporal, but for the stream's first."""
        x = per_frame(layer.resample, x)
        time_conv = getattr(layer, "time_conv", None)
        if time_conv is None:
            return x
        joined = torch.cat([self.past(time_conv)[:, :, -1:], x], dim=2) if self.position else x
        self.keep(time_conv, x)
        return time_conv(joined) if self.position else x
