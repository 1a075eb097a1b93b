"""Causal video VAE with the module tree of Wan 2.1's, for whole clips; streaming.decoder decodes them as they come.

Frame 0 becomes latent 0, every further 4 frames one latent. Keys are those of the published Wan 2.1 VAE, so a
file written from here loads wherever that one does. Activations are (B, C, T, H, W) throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def join_past(x: Tensor, past: Tensor | None, *, frames: int) -> Tensor:
    """x (B, C, T, H, W) behind exactly `frames` earlier frames: those of `past`, zeros before them."""
    if past is not None:
        x, frames = torch.cat([past, x], dim=2), frames - past.shape[2]
    return F.pad(x, (0, 0, 0, 0, frames, 0)) if frames else x


class CausalConv3d(nn.Conv3d):
    """3-D convolution that sees the past only: zeros before the first frame, the carried frames afterwards."""

    def __init__(
        self, in_dim: int, out_dim: int, kernel: int | tuple[int, int, int], padding: int = 0
    ) -> None:
        super().__init__(in_dim, out_dim, kernel, padding=(0, padding, padding))
        self.context = self.kernel_size[0] - 1

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """x: (B, C, T, H, W), past: up to `context` frames before it -> (B, out, T, H, W)."""
        return super().forward(join_past(x, past, frames=self.context))


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

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T, H, W) -> (B, out, T, H, W)."""
        return self.shortcut(x) + self.residual(x)


class AttentionBlock(nn.Module):
    """Single-head attention among the positions of one frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(dim, spatial_dims=2)
        self.to_qkv = nn.Conv2d(dim, dim * 3, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
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

    def forward(self, x: Tensor) -> Tensor:
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

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T, H, W) -> (B, C/2, T or 2T - 1, 2H, 2W)."""
        if self.time_conv is not None:
            x = torch.cat([x[:, :, :1], self._double(x[:, :, 1:])], dim=2)
        return _per_frame(self.resample, x)

    def _double(self, x: Tensor) -> Tensor:
        """The frames after the first, two of each; that one is no context for them."""
        b, c, t, h, w = x.shape
        if t == 0:
            return x
        pairs = self.time_conv(x).reshape(b, 2, c, t, h, w)
        return pairs.permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * t, h, w)


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
        x = self.conv1(x)
        for layer in (*self.downsamples, *self.middle):
            x = layer(x)
        return self.head(x)


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

    def forward(self, z: Tensor) -> Tensor:
        """z: (B, C, T, H, W) -> (B, 3, 4T - 3, 8H, 8W)."""
        x = self.conv1(z)
        for layer in (*self.middle, *self.upsamples):
            x = layer(x)
        return self.head(x)


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
        return self.conv1(self.encoder(frames)).chunk(2, dim=1)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """Whole clip at once: (B, C, T, H, W) -> (B, 3, 4T - 3, 8H, 8W), about [-1, 1]."""
        return self.decoder(self.conv2(latents))


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
