"""The identity picture on its way into the network: the channels beside the noisy latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..networks.profile import StudentProfile

CLIP_MASK_CHANNELS = 4


class Conditioning(Protocol):
    """What a session needs of a reference: the channels beside the noisy latent, for any part of the stream."""

    @property
    def latent_BCTHW(self) -> Tensor:
        """Latents of the reference, its picture first: (1, 16, T, H, W)."""
        ...

    @property
    def clamp_first_latent(self) -> bool:
        """Whether latent 0 of the stream is the picture itself."""
        ...

    def channels(self, first_latent: int, latents: int) -> Tensor:
        """Conditioning channels of these latents: (1, C, latents, H, W)."""
        ...

    def clamp(self, x_BCTHW: Tensor) -> Tensor:
        """The stream's first chunk with latent 0 replaced by the picture."""
        ...


@dataclass(frozen=True, eq=False)
class ReferenceLatents:
    """The picture's latent (1, 16, 1, H, W), normalised as the student sees it, and its mask bits.

    The latent is repeated on every latent frame; the mask channel behind it is `first_mask_bit` at latent 0 of
    the stream and `later_mask_bit` after (LiveTalk, section 1.1).
    """

    latent_BCTHW: Tensor
    first_mask_bit: int = 0
    later_mask_bit: int = 1
    clamp_first_latent: bool = True

    @classmethod
    def for_profile(cls, latent_BCTHW: Tensor, profile: StudentProfile) -> ReferenceLatents:
        """The picture as one student was trained to see it."""
        return cls(
            latent_BCTHW,
            first_mask_bit=profile.first_mask_bit,
            later_mask_bit=profile.later_mask_bit,
            clamp_first_latent=profile.clamp_first_latent,
        )

    def channels(self, first_latent: int, latents: int) -> Tensor:
        """Conditioning channels of latents [first_latent, first_latent + latents): (1, 17, latents, H, W)."""
        picture = self.latent_BCTHW.expand(-1, -1, latents, -1, -1)
        mask = torch.full_like(picture[:, :1], float(self.later_mask_bit))
        if first_latent == 0:
            mask[:, :, 0] = float(self.first_mask_bit)
        return torch.cat([picture, mask], dim=1)

    def clamp(self, x_BCTHW: Tensor) -> Tensor:
        """The stream's first chunk with latent 0 replaced by the picture."""
        return torch.cat([self.latent_BCTHW.to(x_BCTHW), x_BCTHW[:, :, 1:]], dim=2)


@dataclass(frozen=True, eq=False)
class ClipConditioning:
    """The picture as Wan's image-to-video networks see it (InfiniteTalk, section 3.1).

    latent: (1, 16, T, H, W), the picture with mid-grey frames behind it, encoded together and normalised; grey does
    not encode to zeros. Four mask channels lie before it, 1 in latent 0 of the stream and 0 after. Beyond the
    clip its last latent repeats: a causal encoder has settled there.
    """

    latent_BCTHW: Tensor
    clamp_first_latent: bool = False

    def channels(self, first_latent: int, latents: int) -> Tensor:
        """Conditioning channels of latents [first_latent, first_latent + latents): (1, 20, latents, H, W)."""
        last = self.latent_BCTHW.shape[2] - 1
        places = torch.arange(first_latent, first_latent + latents).clamp_max(last)
        clip = self.latent_BCTHW[:, :, places.to(self.latent_BCTHW.device)]
        mask = torch.zeros_like(clip[:, :CLIP_MASK_CHANNELS])
        if first_latent == 0:
            mask[:, :, 0] = 1
        return torch.cat([mask, clip], dim=1)

    def clamp(self, x_BCTHW: Tensor) -> Tensor:
        """The stream's first chunk with latent 0 replaced by the picture."""
        return torch.cat([self.latent_BCTHW[:, :, :1].to(x_BCTHW), x_BCTHW[:, :, 1:]], dim=2)
