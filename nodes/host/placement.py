"""The KV cache of a run on the host's devices: where its past is kept, and page-locked there where that helps."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...networks.cache_spec import CacheSpec
from ...networks.courier import Courier
from ...networks.kv_cache import KVCache, StagedKVCache, make_cache


def placed_cache(
    patcher: ModelPatcher,
    spec: CacheSpec,
    grid: tuple[int, int],
    *,
    dtype: torch.dtype,
    in_main_memory: bool,
    eight_bit: bool,
) -> KVCache:
    """An empty cache for the network of a MODEL, which computes on the MODEL's device. grid: of tokens per latent."""
    network = patcher.model.diffusion_model
    cache = make_cache(
        spec,
        layers=network.num_layers,
        dim=network.dim,
        heads=network.num_heads,
        grid=grid,
        dtype=dtype,
        device=patcher.load_device,
        home="cpu" if in_main_memory else None,
        eight_bit=eight_bit,
    )
    if isinstance(cache, StagedKVCache) and in_main_memory:
        lock_pages(cache)
    return cache


def lock_pages(cache: StagedKVCache) -> None:
    """Lets the past travel while the network computes, within what the host allows to be locked.

    What it does not allow travels more slowly, with the same numbers.
    """
    locked = [tensor for tensor in cache.kept_tensors().values() if comfy.model_management.pin_memory(tensor)]
    if locked:
        weakref.finalize(cache, release, cache.courier, locked)


def release(courier: Courier, locked: Sequence[Tensor]) -> None:
    """Unlocks the pages of a cache that nobody uses any more."""
    courier.finish()
    for tensor in locked:
        comfy.model_management.unpin_memory(tensor)
