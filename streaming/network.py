"""The student as a session calls it: one chunk in, its velocity out."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..networks.attention import prepare_text
from ..networks.cache_spec import CacheSpec
from ..networks.kv_cache import KVCache, RingKVCache
from ..networks.wan import WanModel


class ChunkNetwork(Protocol):
    """A student, wherever it lives: in this process alone, or in a host that manages its memory."""

    @property
    def in_dim(self) -> int:
        """Input channels: noisy latent first, then what conditions it."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its input belongs."""
        ...

    def velocity(
        self, x_BCTHW: Tensor, *, timestep: float, audio_tokens_BTE: Tensor, cache: KVCache
    ) -> Tensor:
        """Velocity (B, 16, T, H, W) of a chunk; x: (B, in_dim, T, H, W), timestep in 0..1000."""
        ...


class LocalNetwork:
    """A WanModel of ours with its text prepared once."""

    def __init__(
        self, model: WanModel, *, text_BMD: Tensor | None = None, image_BMC: Tensor | None = None
    ) -> None:
        """text: rows (1, M, text_dim); None for a student that reads none (one row of zeros).

        image: CLIP vision tokens (1, 257, 1280) of the portrait, for a student that reads them.
        """
        weight = model.patch_embedding.weight
        self.model, self.device, self.dtype = model.eval(), weight.device, weight.dtype
        if text_BMD is None:
            text_BMD = torch.zeros(1, 1, model.config.text_dim)
        with torch.no_grad():
            self._text = prepare_text(
                model,
                text_BMD.to(self.device, self.dtype),
                image_BMC=None if image_BMC is None else image_BMC.to(self.device, self.dtype),
            )

    @property
    def in_dim(self) -> int:
        """Input channels of the network."""
        return self.model.in_dim

    @torch.no_grad()
    def velocity(
        self, x_BCTHW: Tensor, *, timestep: float, audio_tokens_BTE: Tensor, cache: KVCache
    ) -> Tensor:
        """Velocity (B, 16, T, H, W) in the dtype of x."""
        out = self.model(
            x_BCTHW.to(self.dtype),
            timestep_BT=torch.full((x_BCTHW.shape[0], 1), timestep, dtype=torch.float64, device=self.device),
            text_BMD=self._text,
            audio_tokens_BTE=audio_tokens_BTE.to(self.device, self.dtype),
            cache=cache,
        )
        return out.to(x_BCTHW.dtype)

    def make_cache(
        self, spec: CacheSpec, grid: tuple[int, int], *, dtype: torch.dtype | None = None
    ) -> RingKVCache:
        """An empty cache for this network; grid: rows and columns of tokens; dtype: the network's unless given."""
        config = self.model.config
        return RingKVCache(
            spec,
            layers=config.num_layers,
            dim=config.dim,
            heads=config.num_heads,
            grid=grid,
            dtype=dtype or self.dtype,
            device=self.device,
        )
