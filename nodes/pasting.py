"""Behind Paste Face: the generated mouths laid back into their video, at its own size and rate, as they come."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.frame_reader import FrameReader
from ..media.frames import from_bytes, to_bytes
from ..streaming.face_alignment import paste
from ..streaming.video_clock import Mouths
from .host import progress
from .stages import PASTE, stage
from .types import DecodedChunk, Frames, Pasting
from .voice import heard_samples

PASTE_CLASS = "TalkStreamPasteFace"
PIECE_BYTES = 64 * 2**20
"""Of the finished pictures that are in memory at once, one at least."""


def plan_paste(frames: Frames, *, original_sound: bool) -> Frames:
    """The same stream in its video's pictures. Raises ValueError for a stream that follows no video."""
    source, speech = frames.stream.source, frames.stream.speech
    if source is None:
        raise ValueError(
            "these frames follow no video; connect Encode Source Video to source of Stream Chunks, or leave Paste Face "
            "out"
        )
    if frames.pasting is not None:
        raise ValueError("these faces are pasted already; one Paste Face is enough")
    if original_sound and source.face.source.audio() is None:
        raise ValueError("the video has no sound of its own; choose the new voice")
    return dataclasses.replace(
        frames,
        width=source.face.source.width,
        height=source.face.source.height,
        fps=source.face.clock.fps,
        frames=source.face.clock.output_frames(heard_samples(speech), speech.sample_rate),
        pasting=Pasting(len(frames.upscalers), original_sound),
    )


class Paster:
    """The Paste Face node of a running stream: the open video, its bar, and the newest mouths."""

    def __init__(self, frames: Frames, *, node_id: str | None) -> None:
        """frames: as plan_paste made them; what was enlarged after it does not matter."""
        source = frames.stream.source
        self._track, self._clock, self._mask = source.face.track, source.face.clock, source.mask
        speech = frames.stream.speech
        self._total = source.face.clock.output_frames(heard_samples(speech), speech.sample_rate)
        self._generated, self._chunks = frames.stream.spec.frames, frames.stream.spec.chunks
        size = source.face.source.width * source.face.source.height * 3 * 4
        self._piece = max(1, PIECE_BYTES // size)
        self._reader = FrameReader(source.face.source)
        self._mouths: dict[int, np.ndarray] = {}
        self._weights_SS: np.ndarray | None = None  # share of the face in each of its pixels
        self._next = 0
        self.bar = progress.Bar(node_id, self._total)

    def paste(self, chunks: Iterator[DecodedChunk]) -> Iterator[DecodedChunk]:
        """Chunks of faces -> pieces of the video, in order; what shows no face passes through.

        A stream that is finished early ends with its last mouth. A piece that is not its chunk's first has no latents.
        """
        for chunk in chunks:
            levels_FHWC = to_bytes(chunk.pictures_FHWC, low=0.0).numpy()
            self._mouths |= {chunk.first_frame + place: face for place, face in enumerate(levels_FHWC)}
            last = chunk.index + 1 == self._chunks
            made = chunk.first_frame + len(levels_FHWC)
            stop = self._total if last else min(self._total, self._clock.ready(made))
            yield from self._pieces(chunk.index, stop, chunk.latent_BCTHW)
        if not self._chunks:
            yield from self._pieces(0, self._total, torch.zeros(1, 16, 0, 1, 1))

    def close(self) -> None:
        """Lets go of the video and ends the bar."""
        self._reader.close()
        self.bar.finish()

    def _pieces(self, index: int, stop: int, latent_BCTHW: Tensor) -> Iterator[DecodedChunk]:
        while self._next < stop:
            first = self._next
            with stage(PASTE, self.bar.node_id, chunk=index):
                pictures = [self._picture(frame) for frame in range(first, min(stop, first + self._piece))]
                self._next += len(pictures)
                self.bar.update(self._next)
            self._forget()
            yield DecodedChunk(
                index, first, from_bytes(torch.from_numpy(np.stack(pictures)), low=0.0), latent_BCTHW
            )
            latent_BCTHW = latent_BCTHW[:, :, :0]

    def _picture(self, frame: int) -> np.ndarray:
        """One frame of the result, (H, W, 3) uint8."""
        source = self._clock.source_of(frame)
        picture_HWC = self._reader.picture(source)
        mouths = self._clock.mouths_of(frame, generated=self._generated)
        if mouths is None or not self._track.found_F[source]:
            return picture_HWC
        face_HWC = self._face(mouths)
        if face_HWC is None:
            return picture_HWC
        side = face_HWC.shape[0]
        if self._weights_SS is None or len(self._weights_SS) != side:
            self._weights_SS = self._mask.soft(side, side).numpy()
        return paste(picture_HWC, face_HWC, self._track.matrix_at(source, side=side), self._weights_SS)

    def _face(self, mouths: Mouths) -> np.ndarray | None:
        """The nearest generated face, or the blend of two; None where none was generated."""
        pair = [self._mouths.get(number) for number in (mouths.first, mouths.second)]
        if pair[0] is None or pair[1] is None:
            return pair[0] if pair[1] is None else pair[1]
        if not mouths.weight:
            return pair[0]
        weight = float(mouths.weight)
        return np.rint(pair[0] * (1 - weight) + pair[1] * weight).astype(np.uint8)

    def _forget(self) -> None:
        """Drop the mouths that no later frame takes."""
        clock = self._clock
        oldest = self._next * clock.model_fps * clock.fps.denominator // clock.fps.numerator
        # the last frames of a result may all take the last mouth
        oldest = min(oldest, self._generated - 1)
        self._mouths = {number: face for number, face in self._mouths.items() if number >= oldest}


def paster_of(frames: Frames, *, node_id: str, prompt: Mapping[str, Any] | None) -> Paster | None:
    """The one that the description asks for."""
    if frames.pasting is None:
        return None
    return Paster(frames, node_id=progress.upstream_node(prompt, node_id, PASTE_CLASS))
