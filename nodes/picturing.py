"""Pictures of a stream: continuous, or of chunks that are clips of their own in the reference's colours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from ..streaming.motion_pictures import ChunkPictures
from .host import vae as host_vae
from .host.decoders import AUTO, open_decoder
from .host.picture_codec import HostCodec
from .types import Frames, Stream


class Decoder(Protocol):
    """What shows a stream, chunk after chunk."""

    def decode(self, latent_BCTHW: Tensor) -> Tensor:
        """The network's latents (1, 16, T, H, W) -> pictures (F, H, W, 3), float32 in [0, 1] on the CPU."""
        ...

    def reset(self) -> None:
        """The next latent starts a clip of its own."""
        ...


class ChunkDecoder:
    """A Decoder of chunks that are clips of their own."""

    def __init__(self, pictures: ChunkPictures) -> None:
        self.pictures = pictures

    def decode(self, latent_BCTHW: Tensor) -> Tensor:
        """All pictures of a chunk, those of its motion frames in front."""
        return (self.pictures.of(latent_BCTHW)[0].movedim(0, -1) + 1) / 2

    def reset(self) -> None:
        """Every chunk starts one anyway."""


@contextmanager
def student_pictures(stream: Stream) -> Iterator[ChunkPictures | None]:
    """What a student with motion frames sees of its own chunks; None for one with a KV cache."""
    vae = stream.reference.vae
    if not stream.profile.motion_frames:
        yield None
        return
    with open_decoder(vae, dtype=student_dtype(stream), exact=False) as decoder:
        yield chunk_pictures(stream, HostCodec(vae, decoder))


@contextmanager
def shown_pictures(frames: Frames, own: ChunkPictures | None) -> Iterator[Decoder]:
    """The stream as its VAE shows it. own: what the student sees, taken where that is the same."""
    stream = frames.stream
    same = frames.vae is stream.reference.vae and not frames.exact_decoding
    if own is not None and same and frames.decoding_dtype == student_dtype(stream):
        yield ChunkDecoder(own)
        return
    decoder = open_decoder(
        frames.vae, dtype=frames.decoding_dtype, exact=frames.exact_decoding, scale=frames.tiny_scale
    )
    with decoder:
        yield chunkwise(frames, frames.vae, decoder)


@contextmanager
def preview_pictures(frames: Frames) -> Iterator[Decoder | None]:
    """The preview's tiny decoder, or None."""
    if frames.preview_vae is None:
        yield None
        return
    decoder = open_decoder(
        frames.preview_vae, dtype=frames.decoding_dtype, exact=False, scale=frames.tiny_scale
    )
    with decoder:
        yield chunkwise(frames, frames.preview_vae, decoder)


def chunkwise(frames: Frames, vae: object, decoder: Decoder) -> Decoder:
    """The decoder itself, or chunk by chunk for a student with motion frames."""
    if not frames.stream.profile.motion_frames:
        return decoder
    return ChunkDecoder(chunk_pictures(frames.stream, HostCodec(vae, decoder)))


def chunk_pictures(stream: Stream, codec: HostCodec) -> ChunkPictures:
    """Pictures in the colours of the stream's reference, matched on the device of its VAE."""
    reference = stream.reference
    picture_BCHW = reference.picture_BCHW.to(reference.vae.device)
    return ChunkPictures(codec, picture_BCHW, colour_match=stream.profile.colour_match)


def student_dtype(stream: Stream) -> torch.dtype:
    """Number format in which a student's own chunks are decoded for it."""
    return host_vae.decoding_dtype(stream.reference.vae, AUTO)
