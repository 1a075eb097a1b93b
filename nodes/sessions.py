"""From a stream's description to its running session: cache, voice, reference and noise put together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..samplers.noise import NoiseSource
from ..streaming.reference import ReferenceLatents
from ..streaming.session import StreamSession
from .hearing import open_speech
from .host import memory
from .host.graft import HostNetwork
from .types import Stream


def open_session(
    stream: Stream,
    network: HostNetwork,
    *,
    noise: NoiseSource,
    on_step: Callable[[int, Tensor], None],
) -> StreamSession:
    """A session at the stream's beginning; its models are on their devices. on_step: after every network call."""
    spec = stream.spec
    return StreamSession(
        spec,
        network,
        cache=network.make_cache(
            spec.cache_spec,
            spec.grid,
            dtype=cache_dtype(stream),
            in_main_memory=stream.cache.in_main_memory,
            eight_bit=stream.cache.eight_bit,
        ),
        speech=open_speech(stream),
        reference=ReferenceLatents.for_profile(stream.reference.latent_BCTHW, stream.profile),
        noise=noise,
        on_step=on_step,
    )


def cache_dtype(stream: Stream) -> torch.dtype:
    """Number format of the KV cache: the network's unless the user chose another."""
    return memory.PRECISIONS.get(stream.cache.dtype) or stream.model.model.get_dtype_inference()


def stream_bytes(stream: Stream) -> int:
    """Memory beside the weights: KV cache and one chunk's activations."""
    spec, network = stream.spec, stream.model.model
    cache = spec.cache_spec.bytes(
        layers=network.diffusion_model.num_layers,
        dim=network.diffusion_model.dim,
        tokens=spec.grid[0] * spec.grid[1],
        itemsize=cache_dtype(stream).itemsize,
    )
    chunk = network.memory_required([1, 16, spec.cache_spec.chunk, spec.latent_height, spec.latent_width])
    return int(chunk) + (0 if stream.cache.in_main_memory else cache)
