"""A patch discriminator over a few consecutive frames: does a drawn clip move and look like this?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SPANS = (3, 4, 5)


class PatchDiscriminator(nn.Module):
    """2-D convolutions over frames side by side in the channels; one logit for every patch of 22 pixels."""

    def __init__(self, span: int, width: int, generator: torch.Generator) -> None:
        """span: consecutive frames that it sees at once, one of SPANS. width: channels of its first layer."""
        super().__init__()
        if span not in SPANS:
            raise ValueError(f"the discriminator's span is {span} frames; expected one of {SPANS}")
        self.span = span
        self.layers = nn.Sequential(
            nn.Conv2d(3 * span, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 1),
        )  # fmt: skip
        with torch.no_grad():
            for layer in self.layers[::2]:
                drawn = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(drawn * (2 / layer.weight[0].numel()) ** 0.5)
                layer.bias.zero_()

    def forward(self, groups_NCHW: Tensor) -> Tensor:
        """Groups of frames (N, 3 * span, H, W) in [-1, 1] -> logits (N, H / 4, W / 4), high where they look drawn."""
        return self.layers(groups_NCHW)[:, 0]


def frame_groups(pixels_BCTHW: Tensor, span: int, *, offset: int = 0) -> Tensor:
    """Clips (B, 3, F, H, W) -> their consecutive groups of frames from frame `offset` on, (N, 3 * span, H, W).

    Frames that fill no group are left out. Raises ValueError where none is filled.
    """
    b, c, frames, h, w = pixels_BCTHW.shape
    count = (frames - offset) // span
    if count < 1:
        raise ValueError(f"{frames} frames from {offset} on fill no group of {span}; give a longer clip")
    kept = pixels_BCTHW[:, :, offset : offset + count * span]
    return kept.transpose(1, 2).reshape(b * count, span * c, h, w)
