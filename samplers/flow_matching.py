"""Rectified-flow algebra: x = (1 - sigma) x0 + sigma noise, velocity = noise - x0.

Every function takes tensors of one shape, any axes; sigma is a float or a tensor that broadcasts against
them. The arithmetic runs in `dtype` and the result returns in the dtype of the first argument, as Lip
Forcing (float64) and LiveTalk do.
"""

from __future__ import annotations

import torch
from torch import Tensor


def add_noise(
    x0: Tensor, noise: Tensor, sigma: float | Tensor, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Noisy sample (1 - sigma) x0 + sigma noise."""
    dtype = supported_dtype(dtype, x0.device)
    level = _level(sigma, dtype)
    return ((1.0 - level) * x0.to(dtype) + level * noise.to(dtype)).to(x0.dtype)


def x0_from_velocity(
    x: Tensor, velocity: Tensor, sigma: float | Tensor, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Clean sample x - sigma v that a velocity prediction implies."""
    dtype = supported_dtype(dtype, x.device)
    return (x.to(dtype) - _level(sigma, dtype) * velocity.to(dtype)).to(x.dtype)


def euler_step(
    x: Tensor, velocity: Tensor, sigma: float, next_sigma: float, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Sample at the next level, straight along the velocity: x - (sigma - next_sigma) v."""
    return x0_from_velocity(x, velocity, sigma - next_sigma, dtype=dtype)


def noise_from_velocity(
    x: Tensor, velocity: Tensor, sigma: float | Tensor, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Noise x + (1 - sigma) v that a velocity prediction implies."""
    dtype = supported_dtype(dtype, x.device)
    return (x.to(dtype) + (1.0 - _level(sigma, dtype)) * velocity.to(dtype)).to(x.dtype)


def velocity_from_x0(
    x: Tensor, x0: Tensor, sigma: float | Tensor, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Velocity (x - x0) / sigma that a clean prediction implies; sigma must not be 0."""
    dtype = supported_dtype(dtype, x.device)
    return ((x.to(dtype) - x0.to(dtype)) / _level(sigma, dtype)).to(x.dtype)


def velocity_target(x0: Tensor, noise: Tensor) -> Tensor:
    """Velocity a network is trained to predict: noise - x0."""
    return noise - x0


def supported_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """`dtype`, or float32 in place of float64 on Apple's GPUs, which have no float64."""
    return torch.float32 if dtype == torch.float64 and device.type == "mps" else dtype


def _level(sigma: float | Tensor, dtype: torch.dtype) -> float | Tensor:
    return sigma.to(dtype) if isinstance(sigma, Tensor) else sigma
