"""What a run will hold, from sizes alone: weights, KV cache, what the decoder carries along."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .cache_spec import CacheSpec
from .eight_bit import token_bytes
from .staged_cache import stage_count

_KEPT_FRAMES = 2  # of its input, by a causal convolution of length three
GB = 1e9


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes: of the weights, of the KV cache on the device, and of the frames that the VAE carries along.

    work: for one chunk in the making; away: of the KV cache in main memory, where its past is kept there.
    """

    weights: int
    cache: int
    decoder: int
    work: int = 0
    away: int = 0

    @property
    def beside(self) -> int:
        """What the device holds beside the weights."""
        return self.cache + self.decoder + self.work

    @property
    def total(self) -> int:
        """All of it, but for the work."""
        return self.weights + self.cache + self.decoder + self.away

    def __str__(self) -> str:
        """One line in GB (10^9 bytes)."""
        parts = [("weights", self.weights), ("KV cache", self.cache), ("VAE cache", self.decoder)]
        if self.away:
            parts.insert(2, ("its past in main memory", self.away))
        told = " + ".join(f"{name} {size / GB:.2f}" for name, size in parts)
        return f"memory {self.total / GB:.2f} GB: {told}"


@dataclass(frozen=True)
class CacheBytes:
    """Bytes of a KV cache: on the device, and in main memory where its past is kept there."""

    device: int
    main_memory: int = 0


def placed_bytes(
    spec: CacheSpec,
    *,
    layers: int,
    dim: int,
    heads: int,
    tokens: int,
    itemsize: int,
    eight_bit: bool = False,
    in_main_memory: bool = False,
) -> CacheBytes:
    """Exact sizes of what ``kv_cache.make_cache`` makes. tokens: per latent; itemsize: of the network's numbers."""
    sizes = {"layers": layers, "dim": dim, "tokens": tokens, "itemsize": itemsize}
    if not eight_bit and not in_main_memory:
        return CacheBytes(spec.bytes(**sizes))
    kept = spec.kept_bytes(**sizes, token_bytes=token_bytes(dim, heads) if eight_bit else itemsize * dim)
    stages = stage_count("cpu" if in_main_memory else None) * 2 * itemsize * dim * tokens * spec.window
    return CacheBytes(stages, kept) if in_main_memory else CacheBytes(stages + kept)


def weight_bytes(module: nn.Module, *, itemsize: int | None = None) -> int:
    """Bytes of parameters and buffers, also of a module on the meta device. itemsize: as if all had this one."""
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * (itemsize or tensor.element_size()) for tensor in tensors)


def cache_bytes(
    spec: CacheSpec, *, layers: int, dim: int, latent_height: int, latent_width: int, itemsize: int
) -> int:
    """Bytes of the KV cache of a network with patches of two by two latents."""
    tokens = (latent_height // 2) * (latent_width // 2)
    return spec.bytes(layers=layers, dim=dim, tokens=tokens, itemsize=itemsize)


def decoder_bytes(vae: nn.Module, *, latent_height: int, latent_width: int, itemsize: int) -> int:
    """Bytes that a streaming decode carries: two frames of the input of every causal convolution.

    vae: a Wan 2.1 VAE, ours or the host's, also on the meta device.
    """
    decoder, area = vae.decoder, latent_height * latent_width
    numbers = _carried(decoder.conv1, area) + _carried(decoder.middle, area)
    for layer in decoder.upsamples:
        numbers += _carried(layer, area)
        area *= 4 if hasattr(layer, "resample") else 1
    return (numbers + _carried(decoder.head, area)) * itemsize


def encoder_bytes(vae: nn.Module, *, height: int, width: int, itemsize: int) -> int:
    """Bytes that a streaming encode of pictures of this size carries. vae: as in decoder_bytes."""
    encoder, area = vae.encoder, height * width
    numbers = _carried(encoder.conv1, area)
    for layer in encoder.downsamples:
        area //= 4 if hasattr(layer, "resample") else 1
        numbers += _carried(layer, area)
    return (numbers + _carried(encoder.middle, area) + _carried(encoder.head, area)) * itemsize


def _carried(module: nn.Module, area: int) -> int:
    """Numbers kept by the convolutions inside a module that works on pictures of this area."""
    causal = (m for m in module.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1)
    return sum(_KEPT_FRAMES * convolution.in_channels * area for convolution in causal)
