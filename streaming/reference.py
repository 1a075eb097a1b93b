"""The identity picture on its way into the network: the channels beside the noisy latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..networks.profile import StudentProfile


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
