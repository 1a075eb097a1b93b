"""wav2vec2 (base kind), named and shaped as the published checkpoints: convolutions, projection, transformer.

The kind with a group norm behind the first convolution and layer norms behind each half of a layer
(wav2vec2-base, -960h). After Baevski et al., wav2vec 2.0 (2020). Pieces of a clip: see wav2vec2_stream.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops import Attention, sdpa_attention
from .wav2vec2_stream import conv_features, hidden_states, interpolate_vectors

Operations = ModuleType | Any
HEAD_WIDTH = 64


@dataclass(frozen=True)
class Wav2Vec2Config:
    """Sizes: convolution channels, kernels and strides, transformer width, heads, layers, positional convolution."""

    conv_width: int = 512
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    width: int = 768
    heads: int = 12
    layers: int = 12
    ffn_width: int = 3072
    position_kernel: int = 128
    position_groups: int = 16

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % self.position_groups:
            raise ValueError(
                f"wav2vec2 width {self.width} must be a multiple of its {self.heads} heads and of its "
                f"{self.position_groups} positional groups"
            )

    @classmethod
    def from_shapes(
        cls, shapes: Mapping[str, tuple[int, ...]], *, heads: int | None = None
    ) -> Wav2Vec2Config:
        """Sizes read from a checkpoint's tensors; heads are not in them (default: 64 channels each).

        Raises ValueError where the tensors are not those of a base wav2vec2.
        """
        position = _position_shape(shapes)
        first = shapes.get("feature_extractor.conv_layers.0.conv.weight")
        if position is None or first is None or "feature_extractor.conv_layers.1.layer_norm.weight" in shapes:
            raise ValueError("these tensors are not a base wav2vec2; load wav2vec2-base-960h")
        kernels = []
        while (weight := shapes.get(f"feature_extractor.conv_layers.{len(kernels)}.conv.weight")) is not None:
            kernels.append(weight[2])
        layers = 0
        while f"encoder.layers.{layers}.layer_norm.weight" in shapes:
            layers += 1
        width = position[0]
        return cls(
            conv_width=first[0],
            kernels=tuple(kernels),
            strides=cls.strides,
            width=width,
            heads=heads or max(1, width // HEAD_WIDTH),
            layers=layers,
            ffn_width=shapes["encoder.layers.0.feed_forward.intermediate_dense.weight"][0],
            position_kernel=position[2],
            position_groups=width // position[1],
        )


class Wav2Vec2(nn.Module):
    """Speech to hidden states; forward runs a whole clip as LiveTalk does."""

    def __init__(
        self,
        config: Wav2Vec2Config,
        *,
        operations: Operations = nn,
        attention: Attention = sdpa_attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.config = config
        self.masked_spec_embed = nn.Parameter(torch.empty(config.width, **where))
        self.feature_extractor = FeatureExtractor(config, operations=operations, **where)
        self.feature_projection = FeatureProjection(config, operations=operations, **where)
        self.encoder = Encoder(config, operations=operations, attention=attention, **where)

    def forward(self, wave_BS: Tensor, *, vectors: int) -> list[Tensor]:
        """(B, S) normalised 16 kHz samples -> hidden states 0 .. layers, each (B, vectors, D).

        The convolution features are interpolated to `vectors` before the transformer.
        """
        features = interpolate_vectors(conv_features(self.feature_extractor, wave_BS), vectors)
        return list(hidden_states(self.encoder, self.feature_projection(features)))


class FeatureExtractor(nn.Module):
    """Seven strided convolutions over the waveform."""

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        widths = [1] + [config.conv_width] * len(config.kernels)
        self.conv_layers = nn.ModuleList(
            ConvLayer(widths[i], widths[i + 1], kernel, stride, normalised=i == 0, **options)
            for i, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True))
        )


class ConvLayer(nn.Module):
    """Convolution, on the first layer a norm of each channel over the whole clip, GELU."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel: int,
        stride: int,
        *,
        normalised: bool,
        operations: Operations,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.conv = operations.Conv1d(width_in, width_out, kernel, stride=stride, bias=False, **where)
        self.layer_norm = operations.GroupNorm(width_out, width_out, **where) if normalised else nn.Identity()

    def forward(self, x_BCA: Tensor) -> Tensor:
        """(B, C, A) -> (B, C, A / stride)."""
        return F.gelu(self.layer_norm(self.conv(x_BCA)))


class FeatureProjection(nn.Module):
    """Layer norm, then to the transformer's width."""

    def __init__(
        self,
        config: Wav2Vec2Config,
        *,
        operations: Operations,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.layer_norm = operations.LayerNorm(config.conv_width, eps=1e-5, **where)
        self.projection = operations.Linear(config.conv_width, config.width, **where)

    def forward(self, x_BAC: Tensor) -> Tensor:
        """(B, A, C) -> (B, A, D)."""
        return self.projection(self.layer_norm(x_BAC))


class Encoder(nn.Module):
    """Positional convolution, layer norm, layers. Run through wav2vec2_stream.hidden_states."""

    do_stable_layer_norm = False

    def __init__(self, config: Wav2Vec2Config, *, attention: Attention, **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        operations, where = options["operations"], {k: options[k] for k in ("device", "dtype")}
        self.pos_conv_embed = PositionalConv(config, **where)
        self.layer_norm = operations.LayerNorm(config.width, eps=1e-5, **where)
        self.layers = nn.ModuleList(
            Layer(config, attention=attention, **options) for _ in range(config.layers)
        )


class PositionalConv(nn.Module):
    """Relative positions by a wide grouped convolution, its weight normalised per tap."""

    def __init__(
        self, config: Wav2Vec2Config, *, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        kernel = config.position_kernel
        conv = nn.Conv1d(config.width, config.width, kernel, padding=kernel // 2, groups=config.position_groups,
                         device=device, dtype=dtype)  # fmt: skip
        self.conv = nn.utils.parametrizations.weight_norm(conv, name="weight", dim=2)

    def forward(self, x_BAD: Tensor) -> Tensor:
        """(B, A, D) -> (B, A, D)."""
        x = self.conv(x_BAD.transpose(1, 2))
        return F.gelu(x[..., : x_BAD.shape[1]]).transpose(1, 2)


class Layer(nn.Module):
    """Attention and MLP, each followed by a layer norm over the sum."""

    def __init__(self, config: Wav2Vec2Config, *, attention: Attention, **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        operations, where = options["operations"], {k: options[k] for k in ("device", "dtype")}
        self.attention = SelfAttention(config, attention=attention, **options)
        self.layer_norm = operations.LayerNorm(config.width, eps=1e-5, **where)
        self.feed_forward = FeedForward(config, **options)
        self.final_layer_norm = operations.LayerNorm(config.width, eps=1e-5, **where)

    def forward(self, x_BAD: Tensor) -> Tensor:
        """(B, A, D) -> (B, A, D)."""
        x = self.layer_norm(x_BAD + self.attention(x_BAD))
        return self.final_layer_norm(x + self.feed_forward(x))


class SelfAttention(nn.Module):
    """Every vector attends to every other."""

    def __init__(self, config: Wav2Vec2Config, *, attention: Attention, **options: Any) -> None:  # noqa: ANN401
        super().__init__()
        operations, where = options["operations"], {k: options[k] for k in ("device", "dtype")}
        self.heads, self.attention = config.heads, attention
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            self.add_module(name, operations.Linear(config.width, config.width, **where))

    def forward(self, x_BAD: Tensor) -> Tensor:
        """(B, A, D) -> (B, A, D)."""
        return self.out_proj(
            self.attention(self.q_proj(x_BAD), self.k_proj(x_BAD), self.v_proj(x_BAD), self.heads)
        )


class FeedForward(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(
        self,
        config: Wav2Vec2Config,
        *,
        operations: Operations,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.intermediate_dense = operations.Linear(config.width, config.ffn_width, **where)
        self.output_dense = operations.Linear(config.ffn_width, config.width, **where)

    def forward(self, x_BAD: Tensor) -> Tensor:
        """(B, A, D) -> (B, A, D)."""
        return self.output_dense(F.gelu(self.intermediate_dense(x_BAD)))


def canonical_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as this module has them: without 'wav2vec2.' in front, without a word head, today's weight norm.

    Older files call the two halves of the normalised weight weight_g and weight_v.
    """
    out = {}
    for name, tensor in tensors.items():
        short = name.removeprefix("wav2vec2.")
        short = short.replace(".conv.weight_g", ".conv.parametrizations.weight.original0")
        short = short.replace(".conv.weight_v", ".conv.parametrizations.weight.original1")
        if short.split(".")[0] in ("feature_extractor", "feature_projection", "encoder", "masked_spec_embed"):
            out[short] = tensor
    return out


def build_wav2vec2(
    tensors: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    operations: Operations = nn,
    attention: Attention = sdpa_attention,
) -> Wav2Vec2:
    """A wav2vec2 from a checkpoint's tensors, sizes read from them, in evaluation mode.

    heads: default 64 channels each. Raises ValueError where the tensors are not a base wav2vec2 or some are missing.
    """
    named = canonical_names(tensors)
    config = Wav2Vec2Config.from_shapes({k: tuple(v.shape) for k, v in named.items()}, heads=heads)
    with torch.device("meta"):
        model = Wav2Vec2(config, operations=operations, attention=attention)
    missing = sorted(set(model.state_dict()) - set(named) - {"masked_spec_embed"})
    unexpected = sorted(set(named) - set(model.state_dict()))
    if missing or unexpected:
        raise ValueError(
            f"the wav2vec2 lacks {missing[:3]} and has unknown {unexpected[:3]}; load wav2vec2-base-960h"
        )
    named.setdefault("masked_spec_embed", torch.zeros(config.width))
    model.load_state_dict(named, assign=True)
    return model.eval().requires_grad_(False)


def _position_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    return shapes.get("encoder.pos_conv_embed.conv.parametrizations.weight.original1")
