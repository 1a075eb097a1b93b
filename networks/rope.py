"""Rotary positions over (latent, row, column), from float64 angles: no table, so no length limit.

After Wan2.1: adjacent channel pairs, base 10000, the pairs of one head split over time, rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BASE = 10000.0


@dataclass(frozen=True)
class Rope:
    """Rotation of a run of tokens; both (L, 1, K), sin with the sign of its channel. Float32 or float64."""

    cos_L1K: Tensor
    sin_L1K: Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.cos_L1K.shape[0]


def axis_pairs(head_width: int) -> tuple[int, int, int]:
    """Channel pairs of one head for time, row and column: (22, 21, 21) for a width of 128."""
    if head_width < 6 or head_width % 2:
        raise ValueError(
            f"head width {head_width} cannot hold three rotary axes; use an even width of at least 6."
        )
    spatial = head_width // 6
    return head_width // 2 - 2 * spatial, spatial, spatial


def axis_angles(positions: Sequence[int], pairs: int) -> Tensor:
    """Angles of one axis: positions -> (len(positions), pairs), float64, on the host."""
    return torch.outer(torch.tensor(list(positions), dtype=torch.float64), axis_rates(pairs))


def axis_rates(pairs: int) -> Tensor:
    """Angle per position of each channel pair of one axis: (pairs,), float64, on the host."""
    return BASE ** (-torch.arange(pairs, dtype=torch.float64) / pairs)


class Rotary:
    """Makes rotations for runs of latents on one token grid; keeps the part of rows and columns."""

    def __init__(
        self,
        grid: tuple[int, int],
        head_width: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """grid: tokens per column and row of one latent; dtype: float32 or float64 of the rotation."""
        self.grid = grid
        self.dtype = dtype
        self.device = device
        rows, columns = grid
        self._time_pairs, row_pairs, column_pairs = axis_pairs(head_width)
        row = axis_angles(range(rows), row_pairs)[:, None].expand(rows, columns, row_pairs)
        column = axis_angles(range(columns), column_pairs)[None].expand(rows, columns, column_pairs)
        self._spatial = torch.cat([row, column], dim=-1).reshape(rows * columns, -1)

    @property
    def tokens(self) -> int:
        """Tokens of one latent."""
        return self.grid[0] * self.grid[1]

    def __call__(self, positions: Sequence[int]) -> Rope:
        """The rotation of latents at these temporal positions, any integers."""
        time = axis_angles(positions, self._time_pairs)
        count = time.shape[0]
        angles = torch.cat(
            [
                time[:, None].expand(count, self.tokens, time.shape[1]),
                self._spatial[None].expand(count, *self._spatial.shape),
            ],
            dim=-1,
        ).reshape(count * self.tokens, 1, -1)
        cos = angles.cos().repeat_interleave(2, dim=-1)
        sin = torch.stack([-angles.sin(), angles.sin()], dim=-1).flatten(-2)
        return Rope(cos.to(self.device, self.dtype), sin.to(self.device, self.dtype))


def apply_rope(x_BLD: Tensor, rope: Rope) -> Tensor:
    """Rotate queries or keys: (B, L, D) -> (B, L, D) in the same dtype, computed in the rotation's dtype."""
    x = x_BLD.unflatten(-1, (-1, rope.cos_L1K.shape[-1])).to(rope.cos_L1K.dtype)
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * rope.cos_L1K, swapped, rope.sin_L1K).to(x_BLD.dtype).flatten(-2)
