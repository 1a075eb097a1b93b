"""From a stream's description to its running session: network, cache, voice, reference and noise put together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..samplers.noise import NoiseSource
from ..streaming.motion_pictures import ChunkPictures
from ..streaming.motion_session import MotionSession
from ..streaming.reference import ClipConditioning, Conditioning, ReferenceLatents
from ..streaming.session import StreamSession
from .hearing import open_speech
from .host import memory
from .host.graft import HostNetwork
from .host.multitalk import HostSpeakerNetwork
from .host.picture_codec import encode_bytes
from .types import Stream


def open_network(stream: Stream) -> HostNetwork | HostSpeakerNetwork:
    """The student with the stream's text, and what it sees of the portrait; to be entered."""
    if stream.profile.family == "multitalk":
        return HostSpeakerNetwork(
            stream.model,
            text_BMD=stream.text_BMD,
            image_BMC=stream.reference.image_BMC,
            negative_BMD=stream.negative_BMD,
        )
    return HostNetwork(stream.model, text_BMD=stream.text_BMD)


def open_session(
    stream: Stream,
    network: HostNetwork | HostSpeakerNetwork,
    *,
    noise: NoiseSource,
    on_step: Callable[[int, Tensor], None],
    pictures: ChunkPictures | None = None,
) -> StreamSession | MotionSession:
    """A session at the stream's beginning; its models are on their devices.

    on_step: after every network call. pictures: what a student with motion frames sees of its own chunks.
    """
    spec = stream.spec
    if pictures is not None:
        return MotionSession(
            spec,
            network,
            pictures=pictures,
            speech=open_speech(stream),
            conditioning=ClipConditioning(stream.reference.latent_BCTHW),
            noise=noise,
            guidance=stream.guidance,
            on_step=on_step,
        )
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
        reference=conditioning_of(stream),
        noise=noise,
        on_step=on_step,
    )


def conditioning_of(stream: Stream) -> Conditioning:
    """The channels beside the noisy latent of a student with a KV cache."""
    latent_BCTHW = stream.reference.latent_BCTHW
    if stream.profile.family == "multitalk":
        return ClipConditioning(latent_BCTHW, clamp_first_latent=stream.profile.clamp_first_latent)
    return ReferenceLatents.for_profile(latent_BCTHW, stream.profile)


def cache_dtype(stream: Stream) -> torch.dtype:
    """Number format of the KV cache: the network's unless the user chose another."""
    return memory.PRECISIONS.get(stream.cache.dtype) or stream.model.model.get_dtype_inference()


def cache_bytes(stream: Stream) -> int:
    """Bytes of the KV cache; none for a student with motion frames."""
    if stream.profile.motion_frames:
        return 0
    spec, network = stream.spec, stream.model.model.diffusion_model
    return spec.cache_spec.bytes(
        layers=network.num_layers,
        dim=network.dim,
        tokens=spec.grid[0] * spec.grid[1],
        itemsize=cache_dtype(stream).itemsize,
    )


def stream_bytes(stream: Stream) -> int:
    """Memory beside the weights: KV cache and one chunk's activations, or the encoding of its motion frames."""
    spec, network, profile = stream.spec, stream.model.model, stream.profile
    chunk = int(network.memory_required([1, 16, profile.chunk, spec.latent_height, spec.latent_width]))
    if profile.motion_frames:
        size = {"latent_height": spec.latent_height, "latent_width": spec.latent_width}
        return max(chunk, encode_bytes(stream.reference.vae, frames=profile.motion_frames, **size))
    return chunk + (0 if stream.cache.in_main_memory else cache_bytes(stream))
