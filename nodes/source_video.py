"""Behind Encode Source Video: a tracked face as the latents that a lip-sync student follows, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..media.frame_reader import FrameReader
from ..media.frames import from_bytes
from ..media.mask_file import load_mask
from ..networks.memory_plan import encoder_bytes
from ..streaming.face_alignment import align
from ..streaming.mouth_mask import MouthMask
from ..streaming.segments import Segment
from ..streaming.source_latents import SegmentLatents, SourceConditioning
from .host import memory
from .host import vae as host_vae
from .host.graft import profile_of
from .host.takes import new_store
from .portrait import checked_size
from .types import Reference, SourceVideo, TrackedFace

VIDEO_CHANNELS = 65
FIRST = Segment(0, 1)


def encode_source(
    model: io.Model.Type, vae: io.Vae.Type, face: TrackedFace, *, size: int, mask_file: Path | None
) -> tuple[SourceVideo, Reference, Tensor]:
    """The described source, the reference of its first frame, and that face whole and blanked, IMAGE (2, H, W, 3).

    size: of the face crops, 0 as trained. mask_file: LatentSync's mask, None for the drawn one. Raises ValueError for a
    student that follows no video, a size it cannot have, a VAE it was not trained with, or another mask.
    """
    profile = profile_of(model)
    channels = model.model.diffusion_model.in_dim
    if channels != VIDEO_CHANNELS:
        raise ValueError(
            f"the student {profile.name!r} takes {channels} input channels and starts from a portrait; load a lip-sync "
            f"student ({VIDEO_CHANNELS} channels), or use Encode Reference"
        )
    host_vae.check_vae(vae, student=profile.name)
    side, _ = checked_size(profile, width=size, height=size)
    if profile.fps_num != face.clock.model_fps * profile.fps_den:
        raise ValueError(
            f"the student {profile.name!r} makes {profile.fps_num / profile.fps_den:g} frames a second; lip sync here "
            f"needs {face.clock.model_fps}"
        )
    source = SourceVideo(
        profile=profile,
        face=face,
        vae=vae,
        encoding_dtype=host_vae.decoding_dtype(vae, "auto"),
        mask=MouthMask.drawn() if mask_file is None else MouthMask.of_picture(load_mask(mask_file)),
        side=side,
        store=new_store(latent_height=side // 8, latent_width=side // 8),
    )
    return source, *look(source)


def look(source: SourceVideo) -> tuple[Reference, Tensor]:
    """The first frame's face as the reference, and as two pictures: whole, and with its mouth blanked."""
    memory.load_together(source.get_models(), extra_bytes=host_vae.encode_bytes(source.vae, side=source.side))
    with SourceReader(source) as video:
        latent_BCTHW = video.latents(FIRST).read(0, 1)[:1]
        face_BCFHW = video.crops([source.face.clock.source_of_model(0)])
    pictures_BCFHW = torch.cat([face_BCFHW, source.mask.blank(face_BCFHW)])
    shown_BHWC = ((pictures_BCFHW[:, :, 0] + 1) / 2).movedim(1, -1)
    return Reference(latent_BCTHW, source.side, source.side), shown_BHWC


def parts_of_source(source: SourceVideo) -> dict[str, object]:
    """What decides its latents, by value: the face's places, the times, the first picture, mask and encoder."""
    track, clock = source.face.track, source.face.clock
    first = next(source.face.source.frames())
    told = (first.picture, source.face.source.index.ticks, track.points_F32, track.found_F)
    shown = (clock.sources_K, clock.segments_F)
    return {
        "arrays": [torch.from_numpy(np.ascontiguousarray(array)) for array in (*told, *shown)],
        "rate": [clock.fps.numerator, clock.fps.denominator, clock.model_fps],
        "mask": source.mask.coverage_HW,
        "encoder": [source.side, source.encoding_dtype, source.vae.patcher],
    }


def segments_of(source: SourceVideo, *, frames: int) -> tuple[Segment, ...]:
    """The shots of a stream of so many frames, without those that show no face at all."""
    clock, found_F = source.face.clock, source.face.track.found_F
    return tuple(
        Segment(run.first, run.stop - run.first)
        for run in clock.model_runs(frames)
        if any(found_F[clock.source_of_model(frame)] for frame in range(run.first, run.stop))
    )


def source_bytes(source: SourceVideo | None) -> int:
    """Bytes that the two encoders carry from chunk to chunk; none without a video."""
    if source is None:
        return 0
    itemsize, network = source.encoding_dtype.itemsize, source.vae.first_stage_model
    return 2 * encoder_bytes(network, height=source.side, width=source.side, itemsize=itemsize)


def source_work_bytes(source: SourceVideo | None) -> int:
    """Memory to encode one latent; none without a video."""
    return 0 if source is None else host_vae.encode_bytes(source.vae, side=source.side)


def describe_source(source: SourceVideo) -> str:
    """One line for the node: size, length, shots, frames without a face, size of the crops."""
    track, index = source.face.track, source.face.source.index
    missing = int((~track.found_F).sum())
    shots = len(np.unique(track.segments_F))
    text = f"{track.width}x{track.height}, {float(index.fps):g} fps, {track.frames} frames"
    text += f", {shots} shots" if shots > 1 else ""
    text += f", {missing} without the face" if missing else ""
    return f"{text}; faces of {source.side}x{source.side}"


def open_video(source: SourceVideo | None) -> AbstractContextManager[SourceReader | None]:
    """The reader of a stream's video; nothing for a stream that follows none."""
    return nullcontext() if source is None else SourceReader(source)


class SourceReader:
    """A source while a stream follows it: the open video and the VAE's encoder. A context manager."""

    def __init__(self, source: SourceVideo) -> None:
        """The VAE is on its device."""
        self._source = source
        self._frames = FrameReader(source.face.source)
        self._encoder = host_vae.open_encoder(source.vae, dtype=source.encoding_dtype)

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()

    def conditioning(self, segment: Segment, *, reference_BCTHW: Tensor | None) -> SourceConditioning:
        """The channels beside the noise in one segment. reference: None for the segment's own first latent."""
        latents = self._source.side // 8
        mask_HW = self._source.mask.latents(latents, latents)
        return SourceConditioning(self.latents(segment), mask_HW, reference_BCTHW)

    def latents(self, segment: Segment) -> SegmentLatents:
        """The latents of one segment, made as they are asked for."""
        source, frames = self._source, range(segment.first_frame, segment.first_frame + segment.frames)
        return SegmentLatents(
            self.crops,
            self._encoder,
            sources=[source.face.clock.source_of_model(frame) for frame in frames],
            mask=source.mask,
            normalise=host_vae.normalised,
            store=source.store,
        )

    def crops(self, sources: Sequence[int]) -> Tensor:
        """The aligned faces of these source frames: (1, 3, F, side, side) in [-1, 1]."""
        track, side = self._source.face.track, self._source.side
        faces = [
            align(self._frames.picture(index), track.matrix_at(index, side=side), side=side)
            for index in sources
        ]
        return from_bytes(torch.from_numpy(np.stack(faces)), low=-1.0).movedim(-1, 0)[None]
