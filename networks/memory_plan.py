"""What a run will hold, from sizes alone: weights, KV cache, what the decoder carries along."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .cache_spec import CacheSpec

_KEPT_FRAMES = 2  # of its input, by a causal convolution of length three
_GB = 1e9


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes: of the weights, of the KV cache, and of the frames that the decoder carries from chunk to chunk."""

    weights: int
    cache: int
    decoder: int

    @property
    def total(self) -> int:
        """All three."""
        return self.weights + self.cache + self.decoder

    def __str__(self) -> str:
        """One line in GB (10^9 bytes)."""
        parts = (("weights", self.weights), ("KV cache", self.cache), ("VAE cache", self.decoder))
        told = " + ".join(f"{name} {size / _GB:.2f}" for name, size in parts)
        return f"memory {self.total / _GB:.2f} GB: {told}"


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


def _carried(module: nn.Module, area: int) -> int:
    """Numbers kept by the convolutions inside a module that works on pictures of this area."""
    causal = (m for m in module.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1)
    return sum(_KEPT_FRAMES * convolution.in_channels * area for convolution in causal)
