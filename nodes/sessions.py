"""From a stream's description to its running session: network, cache, voice, reference and noise put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import Tensor

from ..networks.kv_cache import KVCache
from ..samplers.noise import NoiseSource, SeededNoise
from ..streaming.motion_pictures import ChunkPictures
from ..streaming.motion_session import MotionSession
from ..streaming.reference import ClipConditioning, Conditioning, ReferenceLatents
from ..streaming.segmented_session import SegmentedSession
from ..streaming.session import StreamSession
from .budget import cache_dtype
from .hearing import open_speech
from .host.graft import HostNetwork
from .host.multitalk import HostSpeakerNetwork
from .source_video import SourceReader
from .types import Stream
from .voice import voice_from


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
    video: SourceReader | None = None,
) -> StreamSession | MotionSession | SegmentedSession:
    """A session at the stream's beginning; its models are on their devices.

    on_step: after every network call. pictures: what a student with motion frames sees of its own chunks. video: that a
    lip-sync student follows, its segments with seeded noise of their own.
    """
    if video is not None:
        return open_segments(stream, network, video, on_step=on_step)
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
            masks_PL=stream.masks_PL,
            on_step=on_step,
        )
    return session_of(
        stream,
        network,
        cache=new_cache(stream, network),
        reference=conditioning_of(stream),
        noise=noise,
        on_step=on_step,
    )


def open_segments(
    stream: Stream, network: HostNetwork, video: SourceReader, *, on_step: Callable[[int, Tensor], None]
) -> SegmentedSession:
    """A session of a stream that follows a video: at every cut the student forgets what it saw before."""
    cache, plan = new_cache(stream, network), stream.spec.plan

    def open_segment(number: int) -> StreamSession:
        cache.reset()
        part = dataclasses.replace(
            stream,
            spec=stream.spec.of_segment(number),
            speech=voice_from(stream.speech, plan.first_sample(number)),
        )
        first = stream.reference.latent_BCTHW if number == 0 else None
        return session_of(
            part,
            network,
            cache=cache,
            reference=video.conditioning(plan.segments[number], reference_BCTHW=first),
            noise=SeededNoise(stream.seed, segment=number),
            on_step=on_step,
        )

    return SegmentedSession(plan, open_segment)


def session_of(
    stream: Stream,
    network: HostNetwork | HostSpeakerNetwork,
    *,
    cache: KVCache,
    reference: Conditioning,
    noise: NoiseSource,
    on_step: Callable[[int, Tensor], None],
) -> StreamSession:
    """A session of a stream without segments."""
    return StreamSession(
        stream.spec,
        network,
        cache=cache,
        speech=open_speech(stream),
        reference=reference,
        noise=noise,
        on_step=on_step,
    )


def new_cache(stream: Stream, network: HostNetwork | HostSpeakerNetwork) -> KVCache:
    """An empty KV cache of the stream's shape, as the user wants it."""
    return network.make_cache(
        stream.spec.cache_spec,
        stream.spec.grid,
        dtype=cache_dtype(stream),
        in_main_memory=stream.cache.in_main_memory,
        eight_bit=stream.cache.eight_bit,
    )


def conditioning_of(stream: Stream) -> Conditioning:
    """The channels beside the noisy latent of a student with a KV cache."""
    latent_BCTHW = stream.reference.latent_BCTHW
    if stream.profile.family == "multitalk":
        return ClipConditioning(latent_BCTHW, clamp_first_latent=stream.profile.clamp_first_latent)
    return ReferenceLatents.for_profile(latent_BCTHW, stream.profile)
