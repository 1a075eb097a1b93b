"""Latents to frames while they arrive: the Wan 2.1 video decoder with its past carried along.

Every causal convolution keeps the last two frames of its input. Latents pass one at a time, always, so any
chunking of a stream gives the same bits; the first latent is one frame, every other one four. The walk
reads attribute names only, which are the names in a checkpoint, so it runs on networks.causal_vae, on its
folded form for CPUs and on a host's Wan VAE alike. After Wan 2.1's cached decode (Wan-Video, vae.py): beyond the
second temporal upsampling frames go on in pairs, as ComfyUI does it; the folded form takes a latent's four at once.

What holds against ComfyUI's whole decode of the same latents: within 1e-5 in float32 and within rounding in
bfloat16; on one thread of a CPU bit for bit with `exact`, which walks the VAE's own layers and is about four
times slower in float32. With more threads, or on a GPU, the convolution library sums in another order for
another number of frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .carried import CausalWalk, check_tree, per_frame

PAIR = 2  # frames that the high-resolution layers take at a time; folded, all of a latent's


class StreamingDecoder(CausalWalk):
    """One stream's decoder: the VAE's weights, and what the stream remembers.

    decode() takes latents in the VAE's own units. Who turns normalised latents into those is the caller:
    networks.causal_vae.denormalise_latents here, the latent format's process_out in ComfyUI.
    """

    def __init__(
        self,
        vae: nn.Module,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        exact: bool = False,
    ) -> None:
        """vae: has conv2 and decoder, as CausalVAE and ComfyUI's WanVAE do. device: of the weights unless given.

        On a CPU a folded copy of the weights decodes, in `dtype` (the weights' own unless given); elsewhere, and
        with `exact`, the VAE itself in its own format. Raises ValueError for another module tree.
        """
        check_tree(vae, "decoder", "conv2", "upsamples")
        super().__init__(vae, ("decoder", "conv2"), device=device, dtype=dtype, exact=exact)
        self._at_once = PAIR if exact or self.device.type != "cpu" else 2 * PAIR

    @torch.inference_mode()
    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Next latents of the stream (1, 16, T, H, W), T >= 1 -> frames (1, 3, F, 8H, 8W), about [-1, 1].

        F = 4 T, and 3 fewer at the start of the stream.
        """
        return self.decode_recorded(latents_BCTHW)

    def decode_recorded(self, latents_BCTHW: Tensor) -> Tensor:
        """decode(), with gradients where torch records them, through what this and earlier such calls carry; with
        `exact` for any number of clips at once. For training.
        """
        if latents_BCTHW.ndim != 5 or latents_BCTHW.shape[2] < 1:
            raise ValueError(f"got latents of shape {tuple(latents_BCTHW.shape)}, expected (1, 16, T, H, W)")
        frames: list[Tensor] = []
        for latent in latents_BCTHW.to(self.device, self.dtype).split(1, dim=2):
            frames += self._decode_one(latent)
        return torch.cat(frames, dim=2)

    def _decode_one(self, latent_BCTHW: Tensor) -> list[Tensor]:
        decoder = self.vae.decoder
        x = self.convolve(decoder.conv1, self.vae.conv2(latent_BCTHW))
        for layer in decoder.middle:
            x = self.block(layer, x)
        frames: list[Tensor] = []
        self._upsample(list(decoder.upsamples), x, frames)
        self.position += 1
        return frames

    def _upsample(self, layers: list[nn.Module], x: Tensor, frames: list[Tensor]) -> None:
        """The rest of the decoder; splits after a temporal upsampling made more frames than it takes at once."""
        for index, layer in enumerate(layers):
            x = self._resample(layer, x) if hasattr(layer, "resample") else self.block(layer, x)
            if getattr(layer, "time_conv", None) is not None and x.shape[2] > self._at_once:
                for part in x.split(self._at_once, dim=2):
                    self._upsample(layers[index + 1 :], part, frames)
                return
        frames.append(self.sequence(self.vae.decoder.head, x))

    def _resample(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Twice the height and width; twice the frames where it is temporal, but for the stream's first."""
        if getattr(layer, "time_conv", None) is not None and self.position:
            c = x.shape[1]
            pairs = self.convolve(layer.time_conv, x).split(1, dim=2)
            x = torch.cat([frame for pair in pairs for frame in pair.split(c, dim=1)], dim=2)
        return per_frame(layer.resample, x)
