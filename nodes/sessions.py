"""From a stream's description to its running session: network, cache, voice, reference and noise put together."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..samplers.noise import NoiseSource
from ..streaming.motion_pictures import ChunkPictures
from ..streaming.motion_session import MotionSession
from ..streaming.reference import ClipConditioning, Conditioning, ReferenceLatents
from ..streaming.session import StreamSession
from .budget import cache_dtype
from .hearing import open_speech
from .host.graft import HostNetwork
from .host.multitalk import HostSpeakerNetwork
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
