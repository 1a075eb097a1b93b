"""Starting weights under which a deep narrow codec learns from the first step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..networks.causal_vae import AttentionBlock, CausalVAE, Downsample, ResidualBlock, Upsample

_RESIDUAL_GAIN = 0.15
_LOG_VARIANCE = -6.0


@torch.no_grad()
def initialise_codec(vae: CausalVAE, generator: torch.Generator) -> None:
    """Zero biases, quiet residual branches, unit-gain skip paths, time convolutions that copy."""
    for module in vae.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            _scaled_normal(module.weight, generator)
            module.bias.zero_()
    for module in vae.modules():
        if isinstance(module, ResidualBlock):
            module.residual[6].weight.mul_(_RESIDUAL_GAIN)
        elif isinstance(module, AttentionBlock):
            module.proj.weight.mul_(_RESIDUAL_GAIN)
        elif isinstance(module, Downsample):
            _average_2x2(module.resample[1].weight)
            if module.time_conv is not None:
                _copy_time(module.time_conv.weight, taps=(0.25, 0.5, 0.25))
        elif isinstance(module, Upsample):
            _centre_only(module.resample[1].weight, generator)
            if module.time_conv is not None:
                _copy_time(module.time_conv.weight, taps=(0.0, 0.0, 1.0))
    for pointwise in (vae.conv1, vae.conv2):
        pointwise.weight.copy_(torch.eye(pointwise.weight.shape[0])[:, :, None, None, None])
    vae.conv1.bias[vae.config.latent_channels :] = _LOG_VARIANCE
    for trunk in (vae.encoder.conv1, vae.encoder.head[2], vae.decoder.conv1, vae.decoder.head[2]):
        _current_pixel_only(trunk.weight, generator)
    vae.decoder.head[2].weight.mul_(0.5)


def _scaled_normal(weight: Tensor, generator: torch.Generator) -> None:
    fan_in = weight[0].numel()
    weight.copy_(torch.randn(weight.shape, generator=generator) * fan_in**-0.5)


def _average_2x2(weight: Tensor) -> None:
    """3x3 stride-2 filter that averages the 2x2 pixels it starts at, channel by channel, plus a little noise."""
    weight.mul_(0.1)
    for channel in range(weight.shape[0]):
        weight[channel, channel, :2, :2] += 0.25


def _centre_only(weight: Tensor, generator: torch.Generator) -> None:
    """3x3 filter that mixes channels at unit gain at its centre, plus a little noise around it."""
    weight.mul_(0.1)
    weight[:, :, 1, 1] += torch.randn(weight.shape[:2], generator=generator) * weight.shape[1] ** -0.5


def _current_pixel_only(weight: Tensor, generator: torch.Generator) -> None:
    """3x3x3 causal filter that mixes channels at unit gain at the current pixel, plus a little noise around it."""
    weight.mul_(0.1)
    weight[:, :, 2, 1, 1] += torch.randn(weight.shape[:2], generator=generator) * weight.shape[1] ** -0.5


def _copy_time(weight: Tensor, *, taps: tuple[float, float, float]) -> None:
    """(out, in, 3, 1, 1): out channel i is a weighted sum over time of in channel i modulo in."""
    weight.mul_(0.05)
    for channel in range(weight.shape[0]):
        weight[channel, channel % weight.shape[1], :, 0, 0] += torch.tensor(taps)
