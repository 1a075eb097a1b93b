"""wav2vec2 in pieces, so that a long clip needs little memory: convolutions in blocks, one hidden state at a time.

Reads a wav2vec2 by its attribute names (those of the published checkpoints), so it runs on our own module and on
a host's. The only part of the convolutions that sees the whole clip is the group norm behind the first one: its
statistics are gathered first and handed to every block, which makes blocks and whole clip equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops import Cast, default_cast


@dataclass(frozen=True)
class ConvGeometry:
    """Samples one feature looks at, and samples from one feature to the next (400 and 320)."""

    field: int
    hop: int

    def features(self, samples: int) -> int:
        """Features that `samples` samples give."""
        return max(0, (samples - self.field) // self.hop + 1)

    def samples(self, first: int, stop: int) -> tuple[int, int]:
        """Samples that features [first, stop) look at."""
        return first * self.hop, (stop - 1) * self.hop + self.field


@dataclass(frozen=True)
class ChannelNorm:
    """Mean and variance over the whole clip, per channel (C,), float64."""

    mean: Tensor
    variance: Tensor


class ChannelSums:
    """Sums of a signal that comes in blocks, per channel."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, x_BCA: Tensor) -> None:
        """Count in a block, (1, C, A)."""
        values = x_BCA[0].double()
        self.count += values.shape[-1]
        self.sum = self.sum + values.sum(-1)
        self.squares = self.squares + values.square().sum(-1)

    def norm(self) -> ChannelNorm:
        """Statistics of everything added."""
        mean = torch.as_tensor(self.sum / self.count)
        return ChannelNorm(mean, (torch.as_tensor(self.squares / self.count) - mean.square()).clamp_min(0))


def conv_geometry(extractor: nn.Module) -> ConvGeometry:
    """Reach of a convolution stack, from its kernels and strides."""
    field, hop = 1, 1
    for layer in extractor.conv_layers:
        field += (layer.conv.kernel_size[0] - 1) * hop
        hop *= layer.conv.stride[0]
    return ConvGeometry(field, hop)


def has_clip_norm(extractor: nn.Module) -> bool:
    """True where the first convolution is normalised over the whole clip (the base models)."""
    return isinstance(getattr(extractor.conv_layers[0], "layer_norm", None), nn.GroupNorm)


def conv_features(
    extractor: nn.Module, wave_BS: Tensor, *, norm: ChannelNorm | None = None, cast: Cast = default_cast
) -> Tensor:
    """(B, S) samples -> (B, A, C) features, 50 a second at 16 kHz.

    norm: statistics of the first convolution over the clip that the samples belong to; None takes them from
    the samples themselves.
    """
    x = wave_BS[:, None]
    layers = list(extractor.conv_layers)
    if norm is not None and has_clip_norm(extractor):
        x = _first_layer(layers.pop(0), x, norm, cast)
    for layer in layers:
        x = layer(x)
    return x.transpose(1, 2)


def _first_layer(layer: nn.Module, x_B1S: Tensor, norm: ChannelNorm, cast: Cast) -> Tensor:
    x = layer.conv(x_B1S)
    group = layer.layer_norm
    scale = cast(group.weight, x).double() * (norm.variance.to(x.device) + group.eps).rsqrt()
    shift = cast(group.bias, x).double() - norm.mean.to(x.device) * scale
    return F.gelu(x * scale.to(x.dtype)[:, None] + shift.to(x.dtype)[:, None])


def clip_norm(extractor: nn.Module, blocks: Iterator[Tensor]) -> ChannelNorm:
    """Statistics of the first convolution over a clip given as blocks (1, S) of consecutive samples."""
    conv = extractor.conv_layers[0].conv
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    sums, tail = ChannelSums(), None
    for block in blocks:
        wave = block if tail is None else torch.cat([tail, block], dim=-1)
        count = (wave.shape[-1] - kernel) // stride + 1
        if count > 0:
            sums.add(conv(wave[:, None, : (count - 1) * stride + kernel]))
        tail = wave[:, max(count, 0) * stride :]
    return sums.norm()


def hidden_states(encoder: nn.Module, x_BAD: Tensor) -> Iterator[Tensor]:
    """The transformer's hidden states one after the other, each (B, A, D): the input of layer 0 first.

    Where the model normalises at the end (the large ones), the last state is the normalised one.
    """
    x = x_BAD + encoder.pos_conv_embed(x_BAD)
    at_end = bool(getattr(encoder, "do_stable_layer_norm", False))
    if not at_end:
        x = encoder.layer_norm(x)
    for layer in encoder.layers:
        yield x
        x = layer(x)
    yield encoder.layer_norm(x) if at_end else x


def interpolate_vectors(features_BAC: Tensor, vectors: int) -> Tensor:
    """(B, A, C) -> (B, vectors, C): linear over time, first on first and last on last."""
    x = F.interpolate(features_BAC.transpose(1, 2), size=vectors, mode="linear", align_corners=True)
    return x.transpose(1, 2)
