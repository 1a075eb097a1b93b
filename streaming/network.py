"""The student as a session calls it: one chunk in, its velocity out."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..networks.attention import TextContext, prepare_text
from ..networks.cache_spec import CacheSpec
from ..networks.kv_cache import KVCache, RingKVCache, StagedKVCache, make_cache
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
        self,
        model: WanModel,
        *,
        text_BMD: Tensor | None = None,
        image_BMC: Tensor | None = None,
        negative_BMD: Tensor | None = None,
    ) -> None:
        """text: rows (1, M, text_dim); None for a student that reads none (one row of zeros).

        image: CLIP vision tokens (1, 257, 1280) of the portrait, for a student that reads them. negative: rows of
        the text to keep away from, for guidance.
        """
        weight = model.patch_embedding.weight
        self.model, self.device, self.dtype = model.eval(), weight.device, weight.dtype
        if text_BMD is None:
            text_BMD = torch.zeros(1, 1, model.config.text_dim)
        self._text = self._prepared(text_BMD, image_BMC)
        self._negative = None if negative_BMD is None else self._prepared(negative_BMD, image_BMC)

    @torch.no_grad()
    def _prepared(self, text_BMD: Tensor, image_BMC: Tensor | None) -> TextContext:
        image = None if image_BMC is None else image_BMC.to(self.device, self.dtype)
        return prepare_text(self.model, text_BMD.to(self.device, self.dtype), image_BMC=image)

    @property
    def in_dim(self) -> int:
        """Input channels of the network."""
        return self.model.in_dim

    @torch.no_grad()
    def velocity(
        self,
        x_BCTHW: Tensor,
        *,
        timestep: float,
        audio_tokens_BTE: Tensor,
        cache: KVCache | None = None,
        masks_PL: Tensor | None = None,
        negative: bool = False,
    ) -> Tensor:
        """Velocity (B, 16, T, H, W) in the dtype of x.

        masks: of several speakers, as in SpeakerAudio. negative: read the negative text. Raises ValueError where
        there is none.
        """
        if negative and self._negative is None:
            raise ValueError(
                "guidance with text needs a negative text; connect one, or set text guidance to 1"
            )
        out = self.model(
            x_BCTHW.to(self.dtype),
            timestep_BT=torch.full((x_BCTHW.shape[0], 1), timestep, dtype=torch.float64, device=self.device),
            text_BMD=self._negative if negative else self._text,
            audio_tokens_BTE=audio_tokens_BTE.to(self.device, self.dtype),
            masks_PL=None if masks_PL is None else masks_PL.to(self.device),
            cache=cache,
        )
        return out.to(x_BCTHW.dtype)

    def make_cache(
        self,
        spec: CacheSpec,
        grid: tuple[int, int],
        *,
        dtype: torch.dtype | None = None,
        home: torch.device | str | None = None,
        eight_bit: bool = False,
    ) -> RingKVCache | StagedKVCache:
        """An empty cache for this network; grid: rows and columns of tokens; dtype: the network's unless given.

        home: where the past is kept, the network's device unless given. eight_bit: keep it in eight bits.
        """
        config = self.model.config
        return make_cache(
            spec,
            layers=config.num_layers,
            dim=config.dim,
            heads=config.num_heads,
            grid=grid,
            dtype=dtype or self.dtype,
            device=self.device,
            home=home,
            eight_bit=eight_bit,
        )
