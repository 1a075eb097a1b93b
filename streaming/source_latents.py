"""The video that a lip-sync student follows, as latents: whole and with its mouth blanked, made while it streams."""

from __future__ import annotations

import hashlib
import logging
import shutil
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from .encoder import FRAMES_PER_LATENT, StreamingEncoder
from .mouth_mask import MouthMask
from .spool import Spool

logger = logging.getLogger(__name__)

MEMORY_LATENTS = 30
"""Latents after which Wan's encoder has forgotten: its convolutions see 28 of them, and no further."""
LATENT_CHANNELS = 16


class LatentStore:
    """Pairs of latents in a file, found by what went into them: equal frames are encoded once.

    A clip that is looped, another voice over the same video and another seed find theirs here. The folder goes when
    the store is let go.
    """

    def __init__(self, folder: Path, *, height: int, width: int, limit_bytes: int) -> None:
        """folder: made with the first pair. height, width: of the latents. limit_bytes: beyond it nothing is added."""
        self.folder, self.limit_bytes = folder, limit_bytes
        self._spool = Spool(folder / "source", shape=(2, LATENT_CHANNELS, 1, height, width))
        self._places: dict[bytes, int] = {}
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def pairs(self) -> int:
        """Pairs that are held."""
        return len(self._places)

    def find(self, key: bytes) -> Tensor | None:
        """The pair (2, 16, 1, H, W) on the CPU, or None."""
        place = self._places.get(key)
        return None if place is None else self._spool.read(place)

    def add(self, key: bytes, pair_2CTHW: Tensor) -> None:
        """Keep a pair while there is room and the disk takes it."""
        if key in self._places or self._spool.size_bytes + self._spool.record_bytes > self.limit_bytes:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._spool.append(pair_2CTHW)
        except OSError as error:
            self.limit_bytes = 0
            logger.info("TalkStream keeps no more source latents: %s (%s)", self.folder, error.strerror)
            return
        self._places[key] = self._spool.chunks - 1


class SegmentLatents:
    """The latents of one segment of a video, in the order of the stream; asked for again, they are the same.

    Nothing has to be saved to go on later: the encoder forgets after MEMORY_LATENTS, so it is led up from there.
    """

    def __init__(
        self,
        crops: Callable[[Sequence[int]], Tensor],
        encoder: StreamingEncoder,
        *,
        sources: Sequence[int],
        mask: MouthMask,
        normalise: Callable[[Tensor], Tensor],
        store: LatentStore,
    ) -> None:
        """crops: source frames by number -> aligned faces (1, 3, F, H, W) in [-1, 1]; called with ascending times.

        sources: the source frame of each frame of the segment; behind its end the last one stays. normalise: from the
        VAE's units to the student's.
        """
        self._crops, self._sources, self._mask = crops, sources, mask
        self._normalise, self._store = normalise, store
        self._whole, self._blanked = encoder.sibling(), encoder.sibling()
        self._position = 0  # the latent that the encoders make next
        self._settled = 0  # the first one that they make as if they had seen the whole segment

    def read(self, first_latent: int, latents: int) -> Tensor:
        """Pairs (2, 16, latents, H, W), float32 on the CPU: whole, then with the mouth blanked."""
        return torch.cat([self._pair(first_latent + index) for index in range(latents)], dim=2)

    def _pair(self, latent: int) -> Tensor:
        found = self._store.find(self._key(latent))
        if found is None:
            if not self._position <= latent <= self._position + MEMORY_LATENTS or not self._whole.position:
                self._lead_up(latent)
            while self._position <= latent:
                found = self._encode(self._frames(self._position))
                if self._position >= self._settled:
                    self._store.add(self._key(self._position), found)
                self._position += 1
        return found

    def _lead_up(self, latent: int) -> None:
        """Bring the encoders to what they hold before a latent, without those that no longer count."""
        self._whole.reset()
        self._blanked.reset()
        self._position = max(0, latent - MEMORY_LATENTS)
        self._settled = latent if self._position else 0
        if self._position:
            # a stream that begins with the last frame of a latent has its frames grouped like the whole one
            self._encode(self._frames(self._position - 1)[-1:])

    def _encode(self, sources: Sequence[int]) -> Tensor:
        frames_BCFHW = self._crops(sources)
        pair = [self._whole.encode(frames_BCFHW), self._blanked.encode(self._mask.blank(frames_BCFHW))]
        return self._normalise(torch.cat(pair).float()).cpu()

    def _frames(self, latent: int) -> list[int]:
        """Source frames of a latent: the first one has one, every other four."""
        stop = FRAMES_PER_LATENT * latent + 1
        last = len(self._sources) - 1
        return [self._sources[min(frame, last)] for frame in range(max(0, stop - FRAMES_PER_LATENT), stop)]

    def _key(self, latent: int) -> bytes:
        """Told by every frame that the encoder still remembers, and by how near the segment's beginning is."""
        first = max(0, latent - MEMORY_LATENTS)
        seen = [self._frames(number) for number in range(first, latent + 1)]
        return hashlib.blake2b(repr((first == 0, seen)).encode(), digest_size=16).digest()


@dataclass(eq=False)
class SourceConditioning:
    """The 49 channels beside the noisy latent of a lip-sync student (Lip Forcing, conditioning).

    In this order: the first latent, repeated; the mask, 1 where the student paints; the video with its mouth blanked;
    the video as it is. reference_BCTHW: (1, 16, 1, H, W) in place of the segment's own first latent.
    """

    source: SegmentLatents
    mask_HW: Tensor
    reference_BCTHW: Tensor | None = None
    clamp_first_latent: bool = field(default=False, init=False)

    @property
    def latent_BCTHW(self) -> Tensor:
        """What the face looks like: (1, 16, 1, H, W)."""
        if self.reference_BCTHW is None:
            self.reference_BCTHW = self.source.read(0, 1)[:1]
        return self.reference_BCTHW

    def channels(self, first_latent: int, latents: int) -> Tensor:
        """Conditioning channels of latents [first_latent, first_latent + latents): (1, 49, latents, H, W)."""
        whole, blanked = self.source.read(first_latent, latents).split(1)
        reference = self.latent_BCTHW.to(whole).expand_as(whole)
        mask = self.mask_HW.to(whole).expand_as(whole[:, :1])
        return torch.cat([reference, mask, blanked, whole], dim=1)

    def clamp(self, x_BCTHW: Tensor) -> Tensor:
        """Nothing is given: the latents as they are."""
        return x_BCTHW
