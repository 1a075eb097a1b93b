"""Parts of a lip-sync stream in this process: a tiny random student of 65 channels, numbered videos, tracks by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from talkstream.media.video_source import VideoSource
from talkstream.networks.profile import METADATA_KEY
from talkstream.streaming.face_alignment import points_in_box
from talkstream.streaming.faces import FaceTrack
from talkstream.streaming.video_clock import video_clock
from talkstream.tests.fakes import write_tiny_wan_vae
from talkstream.tests.nodes.model_files import mel_profile, mel_tensors
from talkstream.tests.videos import numbered, write_video

BOX = np.array([30.0, 10.0, 80.0, 62.0])
RATE = 16000


def write_lipsync_student(path: Path) -> Path:
    """The tiny student with 65 input channels and no latent given."""
    profile = replace(mel_profile(), name="tiny_lipsync", clamp_first_latent=False, first_mask_bit=1)
    save_file(mel_tensors(in_dim=65), str(path), metadata={METADATA_KEY: profile.to_json()})
    return path


def tracked(video: Path, *, missing: range = range(0), cut: int | None = None) -> Any:  # noqa: ANN401
    """A TrackedFace with one box in every frame; `missing` frames have none, a second shot starts at `cut`."""
    from talkstream.nodes.types import TrackedFace

    source = VideoSource(video)
    frames = source.index.frames
    segments_F = np.array([int(cut is not None and frame >= cut) for frame in range(frames)])
    track = FaceTrack(
        width=source.width,
        height=source.height,
        points_F32=np.tile(points_in_box(BOX), (frames, 1, 1)),
        boxes_F4=np.tile(BOX, (frames, 1)),
        found_F=np.array([frame not in missing for frame in range(frames)]),
        segments_F=segments_F,
        faceless=(),
    )
    index = source.index
    clock = video_clock(index.ticks, time_base=index.time_base, fps=index.fps, segments_F=segments_F)
    return TrackedFace(source=source, track=track, clock=clock)


@dataclass
class Studio:
    """Models of one test module, and streams made with them."""

    model: Any
    vae: Any
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Studio:
        """Load the student and a tiny Wan VAE through the host."""
        import comfy.sd
        import comfy.utils

        from talkstream.nodes.host.student import load_student

        path = write_lipsync_student(folder / "student.safetensors")
        model, _ = load_student(path, profile="auto", precision="fp32")
        state = comfy.utils.load_torch_file(str(write_tiny_wan_vae(folder / "vae.safetensors")))
        return cls(model, comfy.sd.VAE(sd=state), folder)

    def video(self, name: str, frames: int, fps: Fraction, *, sound: bool = False) -> Path:
        """Numbered frames of 96x64."""
        return write_video(self.folder / name, [numbered(n) for n in range(frames)], fps=fps, sound=sound)

    def speech(self, seconds: float) -> Any:  # noqa: ANN401
        """Noise as a voice."""
        from talkstream.nodes.voice import prepare_speech

        samples = 0.2 * torch.randn(1, 1, round(RATE * seconds), generator=torch.Generator().manual_seed(4))
        audio = {"waveform": samples, "sample_rate": RATE}
        return prepare_speech(self.model, audio, encoder=None, window="auto", limit_seconds=0.0)

    def source(self, face: Any) -> tuple:  # noqa: ANN401
        """What Encode Source Video gives."""
        from talkstream.nodes.source_video import encode_source

        return encode_source(self.model, self.vae, face, size=0, mask_file=None)

    def frames(self, source: Any, reference: Any, *, seconds: float, seed: int = 1) -> Any:  # noqa: ANN401
        """What Decode Stream gives."""
        from talkstream.nodes.plan import plan_frames, plan_stream

        stream = plan_stream(
            self.model, self.speech(seconds), reference,
            conditioning=None, sigmas=None, cache=None, seed=seed, source=source,
        )  # fmt: skip
        return plan_frames(stream, self.vae, precision="auto")


def pulled(frames: Any, *, chunks: int | None = None) -> list:  # noqa: ANN401
    """Pieces of a stream, all or so many."""
    from itertools import islice

    from talkstream.nodes.pull import pulling

    with pulling(frames, node_id="8", prompt=None) as pull:
        return list(islice(pull.chunks(), chunks))


def pictures(pieces: list) -> np.ndarray:
    """(F, H, W, 3) uint8 of all pieces, which must follow each other without a gap."""
    from talkstream.media.frames import to_bytes

    starts = [piece.first_frame for piece in pieces]
    lengths = [len(piece.pictures_FHWC) for piece in pieces]
    assert starts == [sum(lengths[:place]) for place in range(len(lengths))]
    return np.concatenate([to_bytes(piece.pictures_FHWC, low=0.0).numpy() for piece in pieces])
