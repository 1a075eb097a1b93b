"""What lies beside the noisy latents in a student's input: of a portrait that talks, of a video that is dubbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Condition(Protocol):
    """A batch of conditions for whole clips.

    clamped: whether latent 0 of the stream is given, not made.
    """

    clamped: ClassVar[bool]

    @property
    def reference_BC1HW(self) -> Tensor:
        """The latent that the network sees at every time."""
        ...

    def channels(self, latents: Sequence[int]) -> Tensor:
        """Channels behind the noisy ones for these latents of the clip: (B, K, len(latents), H, W)."""
        ...

    def clamp(self, x_BCTHW: Tensor) -> Tensor:
        """Latents that begin the stream, with latent 0 as it is given."""
        ...

    def rows(self, chosen_B: Tensor | list[int]) -> Condition:
        """The conditions of some clips of the batch, bool or indices."""
        ...

    def to(self, device: torch.device) -> Condition:
        """The same on a device."""
        ...


@dataclass(frozen=True, eq=False)
class PortraitCondition:
    """A portrait: its latent and a mask, 0 in latent 0 (which is the portrait) and 1 after. 17 channels."""

    reference_BC1HW: Tensor
    clamped: ClassVar[bool] = True

    def channels(self, latents: Sequence[int]) -> Tensor:
        """(B, 17, len(latents), H, W)."""
        picture = self.reference_BC1HW.expand(-1, -1, len(latents), -1, -1)
        made = picture.new_tensor([0.0 if index == 0 else 1.0 for index in latents])
        return torch.cat([picture, made.view(1, 1, -1, 1, 1).expand_as(picture[:, :1])], dim=1)

    def clamp(self, x_BCTHW: Tensor) -> Tensor:
        """The clean reference written over latent 0."""
        return torch.cat([self.reference_BC1HW, x_BCTHW[:, :, 1:]], dim=2)

    def rows(self, chosen_B: Tensor | list[int]) -> PortraitCondition:
        """Some clips of the batch."""
        return PortraitCondition(self.reference_BC1HW[chosen_B])

    def to(self, device: torch.device) -> PortraitCondition:
        """The same on a device."""
        return PortraitCondition(self.reference_BC1HW.to(device))


@dataclass(frozen=True, eq=False)
class LipSyncCondition:
    """A video whose mouth is made anew: its first latent, the mouth mask (1 = made), the video with that region
    blanked, the video as it is. 49 channels (Lip Forcing, conditioning).

    source, masked: (B, C, T, H, W); mask: (H, W).
    """

    source_BCTHW: Tensor
    masked_BCTHW: Tensor
    mask_HW: Tensor
    clamped: ClassVar[bool] = False

    @property
    def reference_BC1HW(self) -> Tensor:
        """The video's first latent."""
        return self.source_BCTHW[:, :, :1]

    def channels(self, latents: Sequence[int]) -> Tensor:
        """(B, 49, len(latents), H, W)."""
        chosen = list(latents)
        source, masked = self.source_BCTHW[:, :, chosen], self.masked_BCTHW[:, :, chosen]
        mask = self.mask_HW.to(source).expand_as(source[:, :1])
        return torch.cat([self.reference_BC1HW.expand_as(source), mask, masked, source], dim=1)

    def clamp(self, x_BCTHW: Tensor) -> Tensor:
        """Nothing is given: the latents as they are."""
        return x_BCTHW

    def rows(self, chosen_B: Tensor | list[int]) -> LipSyncCondition:
        """Some clips of the batch."""
        return LipSyncCondition(self.source_BCTHW[chosen_B], self.masked_BCTHW[chosen_B], self.mask_HW)

    def to(self, device: torch.device) -> LipSyncCondition:
        """The same on a device."""
        tensors = (self.source_BCTHW, self.masked_BCTHW, self.mask_HW)
        return LipSyncCondition(*(tensor.to(device) for tensor in tensors))
