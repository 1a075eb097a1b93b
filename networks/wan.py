"""The Wan 2.1 module tree with the AudioPack or MultiTalk audio path, named and shaped exactly as a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from .attention import TextContext
from .audio_pack import AudioPack, injected_layers
from .multitalk import AudioCrossAttention, AudioProjection, ImageProjection, MultiTalkConfig
from .speaker_attention import SpeakerAudio
from .wan_forward import wan_forward

Operations = ModuleType | Any


@dataclass(frozen=True)
class WanConfig:
    """Sizes of a Wan student.

    audio_in: inputs of AudioPack's ``audio_proj.proj``; None leaves its modules out. image_in: width of the CLIP
    vision tokens that an image-to-video network reads, else None. multitalk: the MultiTalk audio path, else None.
    """

    dim: int
    in_dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    text_dim: int
    out_dim: int = 16
    freq_dim: int = 256
    eps: float = 1e-6
    patch: tuple[int, int, int] = (1, 2, 2)
    audio_in: int | None = None
    audio_hidden: int = 32
    image_in: int | None = None
    multitalk: MultiTalkConfig | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the sizes do not fit together."""
        object.__setattr__(self, "patch", tuple(self.patch))
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ValueError(f"dim {self.dim} must split into {self.num_heads} heads of an even width.")
        if self.patch[0] != 1 or len(self.patch) != 3:
            raise ValueError(
                f"patch is {self.patch}; expected (1, height, width): one token row per latent frame."
            )
        if self.freq_dim % 2:
            raise ValueError(f"freq_dim is {self.freq_dim}; it must be even.")
        if self.audio_in is not None and self.multitalk is not None:
            raise ValueError("a network has AudioPack's audio path or MultiTalk's, not both.")

    @property
    def audio_projections(self) -> int:
        """Number of ``audio_cond_projs``: one per layer that hears the audio."""
        return 0 if self.audio_in is None else len(injected_layers(self.num_layers))


class WanAttention(nn.Module):
    """Projections and query/key norms of one attention; the forward is in ``attention``."""

    def __init__(self, dim: int, eps: float, operations: Operations, **where: Any) -> None:  # noqa: ANN401
        """where: device and dtype of the weights."""
        super().__init__()
        self.q = operations.Linear(dim, dim, **where)
        self.k = operations.Linear(dim, dim, **where)
        self.v = operations.Linear(dim, dim, **where)
        self.o = operations.Linear(dim, dim, **where)
        self.norm_q = operations.RMSNorm(dim, eps=eps, **where)
        self.norm_k = operations.RMSNorm(dim, eps=eps, **where)

    def read_images(self, dim: int, eps: float, operations: Operations, **where: Any) -> None:  # noqa: ANN401
        """Add the projections of CLIP vision tokens that a cross-attention of an image-to-video network has."""
        self.k_img = operations.Linear(dim, dim, **where)
        self.v_img = operations.Linear(dim, dim, **where)
        self.norm_k_img = operations.RMSNorm(dim, eps=eps, **where)


class WanBlock(nn.Module):
    """One transformer block; the forward is in ``wan_forward``."""

    def __init__(self, config: WanConfig, operations: Operations, **where: Any) -> None:  # noqa: ANN401
        """where: device and dtype of the weights."""
        super().__init__()
        dim, eps = config.dim, config.eps
        self.norm1 = operations.LayerNorm(dim, eps, elementwise_affine=False, **where)
        self.self_attn = WanAttention(dim, eps, operations, **where)
        self.norm3 = operations.LayerNorm(dim, eps, elementwise_affine=True, **where)
        self.cross_attn = WanAttention(dim, eps, operations, **where)
        if config.image_in is not None:
            self.cross_attn.read_images(dim, eps, operations, **where)
        if config.multitalk is not None:
            self.norm_x = operations.LayerNorm(dim, eps, elementwise_affine=True, **where)
            self.audio_cross_attn = AudioCrossAttention(
                dim, config.multitalk.token_width, operations, **where
            )
        self.norm2 = operations.LayerNorm(dim, eps, elementwise_affine=False, **where)
        self.ffn = nn.Sequential(
            operations.Linear(dim, config.ffn_dim, **where),
            nn.GELU(approximate="tanh"),
            operations.Linear(config.ffn_dim, dim, **where),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, dim, **where))


class WanHead(nn.Module):
    """Last norm, modulation and projection to patches."""

    def __init__(self, config: WanConfig, operations: Operations, **where: Any) -> None:  # noqa: ANN401
        """where: device and dtype of the weights."""
        super().__init__()
        self.norm = operations.LayerNorm(config.dim, config.eps, elementwise_affine=False, **where)
        self.head = operations.Linear(config.dim, config.out_dim * math.prod(config.patch), **where)
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim, **where))


class WanModel(nn.Module):
    """Causal or bidirectional video network: AudioPack students, MultiTalk students and the Mini, by its sizes."""

    def __init__(
        self,
        config: WanConfig,
        *,
        operations: Operations = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """operations: has Linear, LayerNorm, RMSNorm and Conv3d; torch.nn unless a host brings its own."""
        super().__init__()
        where = {"device": device, "dtype": dtype}
        dim = config.dim
        self.config = config
        self.dim, self.num_heads, self.freq_dim = dim, config.num_heads, config.freq_dim
        self.in_dim, self.out_dim, self.patch_size = config.in_dim, config.out_dim, config.patch
        self.patch_embedding = operations.Conv3d(
            config.in_dim, dim, kernel_size=config.patch, stride=config.patch, **where
        )
        self.text_embedding = nn.Sequential(
            operations.Linear(config.text_dim, dim, **where),
            nn.GELU(approximate="tanh"),
            operations.Linear(dim, dim, **where),
        )
        self.time_embedding = nn.Sequential(
            operations.Linear(config.freq_dim, dim, **where), nn.SiLU(), operations.Linear(dim, dim, **where)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), operations.Linear(dim, 6 * dim, **where))
        self.blocks = nn.ModuleList(WanBlock(config, operations, **where) for _ in range(config.num_layers))
        self.head = WanHead(config, operations, **where)
        if config.image_in is not None:
            self.img_emb = ImageProjection(config.image_in, dim, operations, **where)
        if config.multitalk is not None:
            self.audio_proj = AudioProjection(config.multitalk, operations, **where)
        if config.audio_in is not None:
            self.audio_proj = AudioPack(config.audio_in, config.audio_hidden, operations=operations, **where)
            self.audio_cond_projs = nn.ModuleList(
                operations.Linear(config.audio_hidden, dim, **where) for _ in range(config.audio_projections)
            )

    def forward(
        self,
        x_BCTHW: Tensor,
        *,
        timestep_BT: Tensor,
        text_BMD: Tensor | TextContext,
        audio_tokens_BTE: Tensor | None = None,
        masks_PL: Tensor | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Tensor:
        """Velocity (B, out_dim, T, H, W); options are those of ``wan_forward``.

        audio_tokens: (B, T, E), of a MultiTalk network (B, T, M, E) with masks as in ``SpeakerAudio``.
        """
        if self.config.multitalk is not None and audio_tokens_BTE is not None:
            options["speakers"] = SpeakerAudio(audio_tokens_BTE, self.blocks, masks_PL)
            audio_tokens_BTE = None
        projections = getattr(self, "audio_cond_projs", None) if audio_tokens_BTE is not None else None
        return wan_forward(
            self,
            x_BCTHW,
            timestep_BT=timestep_BT,
            text_BMD=text_BMD,
            audio_tokens_BTE=audio_tokens_BTE,
            audio_projections=projections,
            **options,
        )

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Random weights for training from nothing: Xavier matrices, zero head, zero audio projections."""
        for name, parameter in self.named_parameters():
            if name.endswith("modulation"):
                parameter.copy_(_normal(parameter, generator) / self.dim**0.5)
            elif parameter.ndim == 1:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            elif name.startswith(("head.head", "audio_cond_projs")):
                parameter.zero_()
            elif name.startswith(("text_embedding", "time_embedding")):
                parameter.copy_(0.02 * _normal(parameter, generator))
            else:
                fan_in = parameter[0].numel()
                bound = (6.0 / (fan_in + parameter.shape[0])) ** 0.5
                uniform = torch.rand(parameter.shape, generator=generator, dtype=torch.float32)
                parameter.copy_((2 * uniform - 1) * bound)


def _normal(parameter: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
