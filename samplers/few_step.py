"""The one denoising loop: streaming, Chunk Sampler and training rollouts all call denoise_chunk()."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .flow_matching import add_noise, euler_step, x0_from_velocity
from .schedule import Schedule


def denoise_chunk(
    velocity: Callable[[Tensor, float, int], Tensor],
    x_BCTHW: Tensor,
    *,
    schedule: Schedule,
    renoise: Callable[[int], Tensor] | None,
    clamp: Callable[[Tensor], Tensor] | None = None,
    x0_dtype: torch.dtype = torch.float64,
    exit_step: int | None = None,
    finish_steps: bool = False,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Turns the noise of one chunk into clean latents: predict x0, go to the next level, repeat.

    velocity(x, timestep, step) is the network (noise - x0), x: (B, 16, T, H, W); renoise(step) is fresh
    noise of the same shape after that step, None takes Euler steps instead; clamp writes what is known (the
    reference latent, motion latents) into x before every step and into the result. x0 = x - sigma v and the
    new x are computed in `x0_dtype` and kept in the dtype of x. on_step(step, x0) runs after every step; what
    it raises ends the loop.

    exit_step is for training (Self-Forcing): only that step's network call records a gradient and its x0 is
    the result. The loop stops there, or, with finish_steps, runs the remaining steps without a gradient so
    that per-step caches are filled. Returns x0: (B, 16, T, H, W).
    """
    if exit_step is not None and not 0 <= exit_step < schedule.steps:
        raise ValueError(f"got exit_step {exit_step}, expected 0..{schedule.steps - 1} for this schedule")
    clamp = clamp or _unchanged
    last = schedule.steps - 1
    grad = torch.is_grad_enabled()
    result = x_BCTHW
    for step, (sigma, timestep) in enumerate(zip(schedule.sigmas, schedule.timesteps, strict=False)):
        with torch.set_grad_enabled(grad and exit_step in (None, step)):
            x_BCTHW = clamp(x_BCTHW)
            v = velocity(x_BCTHW, timestep, step)
            x0 = x0_from_velocity(x_BCTHW, v, sigma, dtype=x0_dtype)
            if step in (last, exit_step):
                x0 = clamp(x0)
        if on_step is not None:
            on_step(step, x0)
        if exit_step is None or step == exit_step:
            result = x0
        if step == last or (step == exit_step and not finish_steps):
            break
        with torch.set_grad_enabled(grad and exit_step is None):
            following = schedule.sigmas[step + 1]
            if renoise is None:
                x_BCTHW = euler_step(x_BCTHW, v, sigma, following, dtype=x0_dtype)
            else:
                x_BCTHW = add_noise(x0, renoise(step).to(x0), following, dtype=x0_dtype)
    return result


def _unchanged(x: Tensor) -> Tensor:
    return x
