"""Pieces of the Wan forward that are not attention: sinusoid, modulation, patches."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor


def sinusoid(timestep_BT: Tensor, width: int) -> Tensor:
    """Timestep features (B, T) -> (B, T, width), cosines first; computed and returned in float64.

    Frequencies fall from 1 to (nearly) 1/10000. On a device without float64 the work is done on the host.
    """
    if timestep_BT.device.type == "mps":
        timestep_BT = timestep_BT.cpu()
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timestep_BT.device) / half
    angles = timestep_BT.to(torch.float64)[..., None] * 10000.0**-exponents
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def modulate(x_BLD: Tensor, shift_BTD: Tensor, scale_BTD: Tensor) -> Tensor:
    """shift + x * scale, where L holds T latents of equally many tokens; T may be 1 for all of them."""
    if shift_BTD.shape[1] == 1:
        return torch.addcmul(shift_BTD, x_BLD, scale_BTD)
    x = x_BLD.unflatten(1, (shift_BTD.shape[1], -1))
    return torch.addcmul(shift_BTD[:, :, None], x, scale_BTD[:, :, None]).flatten(1, 2)


def add_gated(x_BLD: Tensor, y_BLD: Tensor, gate_BTD: Tensor) -> Tensor:
    """x + y * gate, where L holds T latents of equally many tokens; T may be 1 for all of them."""
    if gate_BTD.shape[1] == 1:
        return torch.addcmul(x_BLD, y_BLD, gate_BTD)
    latents = gate_BTD.shape[1]
    x, y = x_BLD.unflatten(1, (latents, -1)), y_BLD.unflatten(1, (latents, -1))
    return torch.addcmul(x, y, gate_BTD[:, :, None]).flatten(1, 2)


def add_per_latent(x_BLD: Tensor, token_BTD: Tensor) -> Tensor:
    """Add one vector to all tokens of each latent: (B, L, D) + (B, T, D) -> (B, L, D)."""
    return (x_BLD.unflatten(1, (token_BTD.shape[1], -1)) + token_BTD[:, :, None]).flatten(1, 2)


def unpatchify(y_BLX: Tensor, grid: tuple[int, int, int], patch: tuple[int, int, int]) -> Tensor:
    """Tokens of (p_t, p_h, p_w, C) numbers back to a latent: (B, L, X) -> (B, C, T, H, W)."""
    t, h, w = grid
    pt, ph, pw = patch
    return rearrange(
        y_BLX, "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)", t=t, h=h, w=w, pt=pt, ph=ph, pw=pw
    )
