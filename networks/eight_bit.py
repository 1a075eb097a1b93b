"""Keys and values kept in eight bits, with one scale for each token and head.

After SoulX-LiveAct's cache. A head's largest number becomes 127, so the error of any number is at most 1/254 of the
largest one beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 127.0
SCALE_BYTES = 4


class EightBitSlots:
    """Slots for the keys or the values of one layer: int8 numbers, float32 scales; both are allocated once."""

    def __init__(
        self, batch: int, tokens: int, dim: int, heads: int, *, device: torch.device | str | None = None
    ) -> None:
        """dim: of a token, split into heads of one width."""
        self.heads = heads
        self.values = torch.zeros(batch, tokens, dim, dtype=torch.int8, device=device)
        self.scales = torch.zeros(batch, tokens, heads, dtype=torch.float32, device=device)

    def write(self, start: int, part_BLD: Tensor) -> None:
        """Round tokens into the slots from `start` on, where they are: (B, L, D)."""
        heads = part_BLD.unflatten(-1, (self.heads, -1)).float()
        scale = heads.abs().amax(-1) / LEVELS
        rounded = (heads / scale.clamp_min(1e-30)[..., None]).round()
        stop = start + part_BLD.shape[1]
        self.values[:, start:stop].copy_(rounded.to(torch.int8).flatten(-2), non_blocking=True)
        self.scales[:, start:stop].copy_(scale, non_blocking=True)

    def read_into(self, out_BLD: Tensor) -> None:
        """The first slots as numbers of the format and on the device of `out`, as many as it holds: (B, L, D)."""
        count, where = out_BLD.shape[1], out_BLD.device
        values = self.values[:, :count].to(where, non_blocking=True)
        scales = self.scales[:, :count, :, None].to(where, non_blocking=True)
        scaled = values.unflatten(-1, (self.heads, -1)).to(out_BLD.dtype) * scales.to(out_BLD.dtype)
        out_BLD.copy_(scaled.flatten(-2))


def token_bytes(dim: int, heads: int) -> int:
    """Bytes of one token's keys, or of its values."""
    return dim + SCALE_BYTES * heads
