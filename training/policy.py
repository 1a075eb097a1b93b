"""Group relative policy optimisation as pure functions (GRPO; for flows DanceGRPO and Flow-GRPO)."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(reward_B: Tensor, group: int) -> Tensor:
    """Rewards less their group's mean, over its deviation; groups lie behind one another. A group of equals gets 0."""
    grouped = reward_B.view(-1, group)
    centred = grouped - grouped.mean(dim=1, keepdim=True)
    return (centred / grouped.std(dim=1, keepdim=True, unbiased=False).clamp_min(1e-6)).flatten()


def clipped_loss(log_new_B: Tensor, log_old_B: Tensor, advantage_B: Tensor, *, clip: float) -> Tensor:
    """Minus the mean of min(r A, clamp(r, 1 - clip, 1 + clip) A) with the ratio r = exp(log_new - log_old)."""
    ratio = (log_new_B - log_old_B).exp()
    kept = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantage_B, kept * advantage_B).mean()
