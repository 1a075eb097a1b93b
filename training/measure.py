"""Everything that is measured of generated clips, in one place: benchmarks and experiments call this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..networks.causal_vae import CausalVAE
from .codec import to_tensor
from .data import encode_normalised
from .mouth_measures import MouthManifold, amplitude, best_lag_correlation, blinks_per_minute
from .picture_measures import background_gaps, identity_gaps, psnr_of, sharpness
from .reader import FACE_NAMES, READ_NAMES, FaceReader, shown_truth, train_reader
from .sampling import decode_frames
from .speech import mean_correlation
from .sync_score import score_frames
from .syncnet import SyncNet
from .world.acting import DOMAINS
from .world.clips import random_clip
from .world.pose import POSE_NAMES

JUDGE_CLIPS = 96
_JUDGE_SEED = 70_000
_JUDGE_FRAMES = 25  # many faces teach more than long clips
_IDENTITY_EVERY = 5
_EYES_OPEN = POSE_NAMES.index("eyes_open")


@dataclass(frozen=True)
class Subject:
    """A clip to be judged: frames (F, H, W, 3) uint8, and what it was to show.

    samples: its speech at 16 kHz. mouth: the true mouth (F, 5). portrait: (H, W, 3) uint8. like: pictures as sharp as
    the codec can make them, at best its own of the truth. truth: the same frames as drawn, only where head and eyes
    are the clip's own too (lip sync, the codec alone). place: its mouth boxes (F, 4), where they are known; a student
    that moves the head itself has none.
    """

    frames: np.ndarray
    samples: np.ndarray
    mouth: np.ndarray
    portrait: np.ndarray
    like: np.ndarray
    truth: np.ndarray | None = None
    place: np.ndarray | None = None


@dataclass(frozen=True)
class Judges:
    """The networks that judge, trained on true and reconstructed pictures; without a SyncNet no sync is scored."""

    reader: FaceReader
    manifold: MouthManifold
    syncnet: SyncNet | None = None


@dataclass(frozen=True)
class Measures:
    """Means over clips.

    sync_c, sync_d, offset_frames: SyncNet's confidence, distance and mean absolute offset; None without a SyncNet.
    r_open, r_width, r_round: correlation of the read with the true mouth at lag_frames, the best for the opening.
    amplitude: deviation of the read opening over the true one. r_teeth: of the read with the visible teeth.
    mouth_outside: share of frames with a mouth that speech cannot make (0.01 for the truth). blinks: per minute.
    psnr: dB, None without aligned truth. sharpness: 1 as the codec's. identity, background: distance to the portrait,
    0 is the same.
    """

    sync_c: float | None
    sync_d: float | None
    offset_frames: float | None
    r_open: float
    r_width: float
    r_round: float
    lag_frames: int
    amplitude: float
    r_teeth: float
    mouth_outside: float
    blinks: float
    psnr: float | None
    sharpness: float
    identity: float
    background: float


def measure(subjects: list[Subject], judges: Judges) -> Measures:
    """Judge a set of clips. Raises ValueError for an empty set."""
    if not subjects:
        raise ValueError("there is no clip to measure; give at least one")
    boxes = [judges.reader.find(s.frames) if s.place is None else s.place for s in subjects]
    read = [judges.reader.read(s.frames, box) for s, box in zip(subjects, boxes, strict=True)]
    (r_open, lag), (r_width, _), (r_round, _) = (
        best_lag_correlation([r[:, column] for r in read], [s.mouth[:, column] for s in subjects])
        for column in range(len(READ_NAMES))
    )
    confidence, distance, offset = _sync(subjects, boxes, judges)
    aligned = [psnr_of(s.frames, s.truth) for s in subjects if s.truth is not None]
    return Measures(
        sync_c=confidence, sync_d=distance, offset_frames=offset,
        r_open=r_open, r_width=r_width, r_round=r_round, lag_frames=lag,
        amplitude=amplitude([r[:, 0] for r in read], [s.mouth[:, 0] for s in subjects]),
        r_teeth=float(np.mean([_teeth_correlation(r, s) for r, s in zip(read, subjects, strict=True)])),
        mouth_outside=float(np.mean([judges.manifold.outside(r) for r in read])),
        blinks=float(np.mean([blinks_per_minute(r[:, FACE_NAMES.index("eyes")]) for r in read])),
        psnr=float(np.mean(aligned)) if len(aligned) == len(subjects) else None,
        sharpness=float(np.mean([sharpness(s.frames, s.like) for s in subjects])),
        identity=float(np.mean([_identity(s) for s in subjects])),
        background=float(np.mean([background_gaps(s.frames, s.portrait).mean() for s in subjects])),
    )  # fmt: skip


def _sync(
    subjects: list[Subject], boxes: list[np.ndarray], judges: Judges
) -> tuple[float, float, float] | tuple[None, None, None]:
    if judges.syncnet is None:
        return None, None, None
    scores = [
        score_frames(judges.syncnet, s.frames, s.samples, box) for s, box in zip(subjects, boxes, strict=True)
    ]
    columns = zip(*((s.confidence, s.distance, abs(s.offset)) for s in scores), strict=True)
    return tuple(float(np.mean(column)) for column in columns)


def _teeth_correlation(read: np.ndarray, subject: Subject) -> float:
    column = FACE_NAMES.index("teeth")
    shown = shown_truth(subject.mouth, np.ones(len(subject.mouth)))[:, column]
    return mean_correlation(read[None, :, column], shown[None])


def _identity(subject: Subject) -> float:
    """The median of its frames: blinks and a turned head do not count."""
    return float(np.median(identity_gaps(subject.frames, subject.portrait, every=_IDENTITY_EVERY)))


def reconstruct(vae: CausalVAE, frames: np.ndarray) -> np.ndarray:
    """Frames (F, H, W, 3) uint8, F = 1 + 4n, through the codec and back."""
    with torch.no_grad():
        latents = encode_normalised(vae, to_tensor(frames[None]))
    return np.concatenate(list(decode_frames(vae, latents)))


def make_judges(vae: CausalVAE, *, side: int, clips: int = JUDGE_CLIPS) -> Judges:
    """A reader, and the limit of its errors, from true and reconstructed clips of training voices and new faces in all
    domains; no SyncNet.

    The last quarter of the clips sets the limit, the others train. Raises ValueError below 2 clips.
    """
    if clips < 2:
        raise ValueError(
            f"got {clips} clips to train judges on; expected at least 2, one of them for the limit"
        )
    frames, truth, place = [], [], []
    for index in range(clips):
        clip = random_clip(_JUDGE_SEED + index, _JUDGE_FRAMES, side=side, held_out=False, domains=DOMAINS)
        frames.append(np.concatenate([clip.frames, reconstruct(vae, clip.frames)]))
        truth.append(np.tile(shown_truth(clip.mouth, clip.pose[:, _EYES_OPEN]), (2, 1)))
        place.append(np.tile(clip.place, (2, 1)))
    train = clips - -(-clips // 4)
    reader = train_reader(
        np.concatenate(frames[:train]), np.concatenate(truth[:train]), place=np.concatenate(place[:train])
    )
    read = [reader.read(half) for f in frames[train:] for half in np.split(f, 2)]
    return Judges(reader, MouthManifold.fit(np.concatenate(truth), np.concatenate(read)))
