"""Pictures of chunks that are clips of their own, in the reference's colours, and what the next chunk starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from .colour import match_colours
from .motion import PictureCodec


class ChunkPictures:
    """Decodes the chunks of a stream with motion frames.

    The newest chunk's pictures are kept, so that showing a chunk and going on from it decode it once.
    """

    def __init__(self, codec: PictureCodec, reference_BCHW: Tensor, *, colour_match: float) -> None:
        """reference: (1, 3, H, W) in [-1, 1] at the stream's size, on the device that colours are matched on.

        colour_match: 0..1, how far each picture's colours are drawn to the reference's.
        """
        self._codec, self._reference_BCHW, self._colour_match = codec, reference_BCHW, colour_match
        self._newest: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def of(self, latent_BCTHW: Tensor) -> Tensor:
        """Latents of a chunk (1, 16, T, H, W) -> its pictures, motion frames in front: (1, 3, F, H, W) in [-1, 1]."""
        if self._newest is None or self._newest[0] is not latent_BCTHW:
            decoded = self._codec.decode(latent_BCTHW).clamp(-1, 1)
            pictures = match_colours(decoded, self._reference_BCHW, strength=self._colour_match)
            self._newest = latent_BCTHW, pictures
        return self._newest[1]

    @torch.no_grad()
    def motion(self, latent_BCTHW: Tensor | None, *, frames: int) -> Tensor:
        """Latents that the chunk behind these starts from: its last pictures, or without one the reference."""
        if latent_BCTHW is None:
            return self._codec.encode(self._reference_BCHW[:, :, None])
        return self._codec.encode(self.of(latent_BCTHW)[:, :, -frames:])
