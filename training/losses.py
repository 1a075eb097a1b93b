"""Losses and picture measures as pure functions of tensors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SMOOTH = 1e-3
_NORMALISER_FLOOR = 1e-6


def weighted_charbonnier(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Smooth absolute difference, mean of weight * sqrt(d^2 + s^2); weight broadcasts against the pixels."""
    return (weight * ((output - target).square() + _SMOOTH**2).sqrt()).mean()


def edge_loss(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Absolute difference of neighbouring-pixel steps along height and width, (B, C, T, H, W)."""
    difference = output - target
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs() * weight[..., 1:, :]
    right = (difference[..., 1:] - difference[..., :-1]).abs() * weight[..., 1:]
    return down.mean() + right.mean()


def psnr(output: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return -10 * math.log10(max((output - target).square().mean().item() / 4, 1e-12))


def weighted_mse(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * squared difference over the sum of the (broadcast) weights; 0 where all weights are 0."""
    weight = weight.expand_as(output)
    return (weight * (output - target).square()).sum() / weight.sum().clamp_min(1e-6)


def dmd_gradient(current: Tensor, real: Tensor, fake: Tensor, scored: Tensor) -> Tensor:
    """Direction in which the student's sample should not go, per sample and normalised (DMD, equations 7 and 8).

    (fake - real) / mean |current - real|, the mean over what is scored; 0 elsewhere. current, real, fake: clean
    estimates (B, ...); scored: 0 or 1, broadcasts against them.
    """
    axes = tuple(range(1, current.ndim))
    scored = scored.expand_as(current)
    distance = ((current - real).abs() * scored).sum(dim=axes, keepdim=True)
    scale = distance / scored.sum(dim=axes, keepdim=True).clamp_min(1) + _NORMALISER_FLOOR
    return (fake - real) / scale * scored


def gradient_loss(current: Tensor, gradient: Tensor, scored: Tensor) -> Tensor:
    """0.5 * mean of (x - sg[x - gradient])^2 over what is scored, per sample (B,).

    Its gradient with respect to current is gradient / scored elements (Lip Forcing 7.3).
    """
    axes = tuple(range(1, current.ndim))
    scored = scored.expand_as(current)
    gap = (current - (current - gradient).detach()) * scored
    return 0.5 * gap.square().sum(dim=axes) / scored.sum(dim=axes).clamp_min(1)


def critic_loss(predicted: Tensor, made: Tensor, sigma: Tensor, scored: Tensor) -> Tensor:
    """Flow loss of the fake score from its clean prediction: mean of |predicted - made|^2 / sigma^2 over what is
    scored.

    With x0 = x - sigma v this is the mean squared error of its velocity. sigma: (B, 1, ...), above 0.
    """
    scored = scored.expand_as(predicted)
    error = ((predicted - made) / sigma).square() * scored
    return error.sum() / scored.sum().clamp_min(1)


def pixel_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute plus mean squared difference of pictures in [-1, 1]."""
    difference = output - target
    return difference.abs().mean() + difference.square().mean()


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """-log D(real) - log(1 - D(made)), mean over patches, for logits whose sigmoid is D (EchoTorrent, equation 5)."""
    return F.softplus(-real).mean() + F.softplus(made).mean()


def adversarial_loss(made: Tensor) -> Tensor:
    """-log D(made), mean over patches, for logits whose sigmoid is D.

    The non-saturating form (Goodfellow et al. 2014) of equation 5's log(1 - D(made)): same fixed point, and its
    gradient does not vanish where the discriminator is sure.
    """
    return F.softplus(-made).mean()


def gradient_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Squared length of the logits' gradient in pictures (N, ...), mean over them (R1, Mescheder et al. 2018)."""
    (slope,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()
