"""Causal video VAE with the module tree of Wan 2.1's, whole clip or one latent frame at a time.

Frame 0 becomes latent 0, every further 4 frames one latent. Keys are those of the published Wan 2.1 VAE, so a
file written from here loads wherever that one does. Activations are (B, C, T, H, W) throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Statistics of Wan 2.1 latents, per channel: what samplers see is (mean of the posterior - MEAN) / STD.
WAN_LATENT_MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
                   0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)  # fmt: skip
WAN_LATENT_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                  3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)  # fmt: skip


@dataclass(frozen=True)
class VAEConfig:
    """Widths of the codec; the published Wan 2.1 VAE is dim 96."""

    dim: int = 16
    latent_channels: int = 16
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)

    def __post_init__(self) -> None:
        if len(self.temporal_downsample) != len(self.multipliers) - 1:
            raise ValueError(
                f"temporal_downsample has {len(self.temporal_downsample)} entries for {len(self.multipliers)} "
                "multipliers; expected one fewer than the multipliers"
            )


@dataclass
class VAEState:
    """What a stream remembers: the last input frames of every time-aware layer, in order of execution."""

    tails: list[Tensor | None] = field(default_factory=list)


class _Tape:
    """Walks through a VAEState in the order in which layers run; without a state every layer starts fresh."""

    def __init__(self, state: VAEState | None) -> None:
        self._tails = [] if state is None else state.tails
        self._keep = state is not None
        self._next = 0

    def exchange(self, x: Tensor, frames: int) -> Tensor | None:
        """Return the previous tail of this layer and store the last frames of x (appended to the old tail)."""
        if not self._keep:
            return None
        if self._next == len(self._tails):
            self._tails.append(None)
        past = self._tails[self._next]
        joined = x if past is None else torch.cat([past, x], dim=2)
        self._tails[self._next] = joined[:, :, -frames:].clone()
        self._next += 1
        return past


class CausalConv3d(nn.Conv3d):
    """3-D convolution that sees the past only: zeros before the first frame, the carried frames afterwards."""

    def __init__(
        self, in_dim: int, out_dim: int, kernel: int | tuple[int, int, int], padding: int = 0
    ) -> None:
        super().__init__(in_dim, out_dim, kernel, padding=(0, padding, padding))
        self.context = self.kernel_size[0] - 1

    def forward(self, x: Tensor, tape: _Tape) -> Tensor:
        """x: (B, C, T, H, W) -> (B, out, T, H, W)."""
        if self.context == 0:
            return super().forward(x)
        past = tape.exchange(x, self.context)
        if past is not None:
            x = torch.cat([past, x], dim=2)
        missing = self.context - (0 if past is None else past.shape[2])
        if missing:
            x = F.pad(x, (0, 0, 0, 0, missing, 0))
        return super().forward(x)


class RMSNorm(nn.Module):
    """Scale every position's channel vector to unit root mean square, times a gain."""

    def __init__(self, dim: int, *, spatial_dims: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *([1] * spatial_dims)))
        self.gain = dim**0.5

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, ...) -> the same shape."""
        inverse = x.square().sum(dim=1, keepdim=True).clamp_min(1e-24).rsqrt()
        return x * inverse.to(x.dtype) * (self.gain * self.gamma).to(x.dtype)


class ResidualBlock(nn.Module):
    """Norm, SiLU, causal convolution, twice, plus a skip path."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            RMSNorm(in_dim, spatial_dims=3), nn.SiLU(), CausalConv3d(in_dim, out_dim, 3, 1),
            RMSNorm(out_dim, spatial_dims=3), nn.SiLU(), nn.Identity(), CausalConv3d(out_dim, out_dim, 3, 1),
        )  # fmt: skip
        self.shortcut = CausalConv3d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor, tape: _Tape) -> Tensor:
        """x: (B, C, T, H, W) -> (B, out, T, H, W)."""
        y = x
        for layer in self.residual:
            y = layer(y, tape) if isinstance(layer, CausalConv3d) else layer(y)
        skip = self.shortcut(x, tape) if isinstance(self.shortcut, CausalConv3d) else x
        return skip + y


class AttentionBlock(nn.Module):
    """Single-head attention among the positions of one frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim, spatial_dims=2)
        self.to_qkv = nn.Conv2d(dim, dim * 3, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, tape: _Tape) -> Tensor:
        """x: (B, C, T, H, W) -> the same shape."""
        b, c, t, h, w = x.shape
        frames = x.transpose(1, 2).reshape(b * t, c, h, w)
        q, k, v = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2)[:, None].chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(b * t, c, h, w)
        return x + self.proj(mixed).reshape(b, t, c, h, w).transpose(1, 2)


def _per_frame(layers: nn.Module, x: Tensor) -> Tensor:
    """Run 2-D layers on every frame of (B, C, T, H, W)."""
    b, c, t, h, w = x.shape
    y = layers(x.transpose(1, 2).reshape(b * t, c, h, w))
    return y.reshape(b, t, *y.shape[1:]).transpose(1, 2)


class Downsample(nn.Module):
    """Halve height and width, and, where temporal, every pair of frames after the first into one."""

    def __init__(self, dim: int, *, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, stride=2))
        self.time_conv = nn.Conv3d(dim, dim, (3, 1, 1), stride=(2, 1, 1)) if temporal else None

    def forward(self, x: Tensor, tape: _Tape) -> Tensor:
        """x: (B, C, 1 + 2n, H, W) -> (B, C, 1 + n, H/2, W/2); whole clips only."""
        x = _per_frame(self.resample, x)
        if self.time_conv is None or x.shape[2] == 1:
            return x
        return torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)


class Upsample(nn.Module):
    """Double height and width, and, where temporal, every frame after the first into two."""

    def __init__(self, dim: int, *, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest-exact"), nn.Conv2d(dim, dim // 2, 3, padding=1)
        )
        self.time_conv = CausalConv3d(dim, dim * 2, (3, 1, 1)) if temporal else None

    def forward(self, x: Tensor, tape: _Tape) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C/2, T or 2T or 2T - 1, 2H, 2W)."""
        if self.time_conv is not None:
            first = tape.exchange(x[:, :, :0], 1) is None
            kept, rest = (x[:, :, :1], x[:, :, 1:]) if first else (x[:, :, :0], x)
            x = (
                torch.cat([kept, self._double(rest, tape)], dim=2)
                if rest.shape[2]
                else self._skip(kept, tape)
            )
        return _per_frame(self.resample, x)

    def _double(self, x: Tensor, tape: _Tape) -> Tensor:
        b, c, t, h, w = x.shape
        pairs = self.time_conv(x, tape).reshape(b, 2, c, t, h, w)
        return pairs.permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * t, h, w)

    def _skip(self, x: Tensor, tape: _Tape) -> Tensor:
        """The first frame alone is not doubled and is no context for the frames after it."""
        tape.exchange(x[:, :, :0], self.time_conv.context)
        return x


class Encoder(nn.Module):
    """Pixels -> posterior mean and log-variance before the last 1x1x1 convolution."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        dims = [config.dim * m for m in (1, *config.multipliers)]
        self.conv1 = CausalConv3d(3, dims[0], 3, 1)
        layers: list[nn.Module] = []
        for level, (in_dim, out_dim) in enumerate(zip(dims[:-1], dims[1:], strict=True)):
            for index in range(config.res_blocks):
                layers.append(ResidualBlock(in_dim if index == 0 else out_dim, out_dim))
            if level < len(config.temporal_downsample):
                layers.append(Downsample(out_dim, temporal=config.temporal_downsample[level]))
        self.downsamples = nn.ModuleList(layers)
        top = dims[-1]
        self.middle = nn.ModuleList([ResidualBlock(top, top), AttentionBlock(top), ResidualBlock(top, top)])
        self.head = nn.Sequential(
            RMSNorm(top, spatial_dims=3), nn.SiLU(), CausalConv3d(top, 2 * config.latent_channels, 3, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, 3, 1 + 4n, H, W) in [-1, 1] -> (B, 2 * latent channels, 1 + n, H/8, W/8)."""
        tape = _Tape(None)
        x = self.conv1(x, tape)
        for layer in (*self.downsamples, *self.middle):
            x = layer(x, tape)
        return self.head[2](self.head[1](self.head[0](x)), tape)


class Decoder(nn.Module):
    """Latents after the first 1x1x1 convolution -> pixels."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        reverse = config.multipliers[::-1]
        dims = [config.dim * m for m in (reverse[0], *reverse)]
        temporal = config.temporal_downsample[::-1]
        self.conv1 = CausalConv3d(config.latent_channels, dims[0], 3, 1)
        top = dims[0]
        self.middle = nn.ModuleList([ResidualBlock(top, top), AttentionBlock(top), ResidualBlock(top, top)])
        layers: list[nn.Module] = []
        for level, (in_dim, out_dim) in enumerate(zip(dims[:-1], dims[1:], strict=True)):
            in_dim = in_dim if level == 0 else in_dim // 2
            for index in range(config.res_blocks + 1):
                layers.append(ResidualBlock(in_dim if index == 0 else out_dim, out_dim))
            if level < len(temporal):
                layers.append(Upsample(out_dim, temporal=temporal[level]))
        self.upsamples = nn.ModuleList(layers)
        self.head = nn.Sequential(RMSNorm(out_dim, spatial_dims=3), nn.SiLU(), CausalConv3d(out_dim, 3, 3, 1))

    def forward(self, z: Tensor, state: VAEState | None = None) -> Tensor:
        """z: (B, C, T, H, W) -> (B, 3, frames, 8H, 8W); a given state is updated in place."""
        tape = _Tape(state)
        x = self.conv1(z, tape)
        for layer in (*self.middle, *self.upsamples):
            x = layer(x, tape)
        return self.head[2](self.head[1](self.head[0](x)), tape)


class CausalVAE(nn.Module):
    """Wan-2.1-shaped video codec; latents are in Wan's raw units unless said otherwise."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.conv1 = CausalConv3d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.conv2 = CausalConv3d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config)

    def encode(self, frames: Tensor) -> Tensor:
        """frames: (B, 3, 1 + 4n, H, W) in [-1, 1] -> posterior mean (B, C, 1 + n, H/8, W/8)."""
        if frames.shape[2] % 4 != 1 or frames.shape[3] % 8 or frames.shape[4] % 8:
            raise ValueError(
                f"cannot encode {tuple(frames.shape)}; expected 1 + 4n frames and sides that are multiples of 8"
            )
        return self.conv1(self.encoder(frames), _Tape(None)).chunk(2, dim=1)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Whole clip at once: (B, C, T, H, W) -> (B, 3, 4T - 3, 8H, 8W), about [-1, 1]."""
        return self.decoder(self.conv2(latents, _Tape(None)))

    def init_state(self) -> VAEState:
        """State of a stream that has decoded nothing yet."""
        return VAEState()

    def decode_next(self, latents: Tensor, state: VAEState) -> Tensor:
        """Continue a stream: (B, C, T, H, W) -> 4T frames (4T - 3 at its start).

        Latents pass one at a time, so every chunking gives the same bits. The state is updated in place.
        """
        parts = [self.decoder(self.conv2(z, _Tape(None)), state) for z in latents.split(1, dim=2)]
        return torch.cat(parts, dim=2)


def normalise_latents(latents: Tensor) -> Tensor:
    """Raw Wan latents (B, C, T, H, W) -> zero mean, unit deviation per channel: what a student sees."""
    mean, std = _statistics(latents)
    return (latents - mean) / std


def denormalise_latents(latents: Tensor) -> Tensor:
    """Inverse of normalise_latents."""
    mean, std = _statistics(latents)
    return latents * std + mean


def _statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, len(WAN_LATENT_MEAN), 1, 1, 1)
    return like.new_tensor(WAN_LATENT_MEAN).view(shape), like.new_tensor(WAN_LATENT_STD).view(shape)
