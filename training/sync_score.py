"""Sync-C and Sync-D: how far lips and speech agree, as SyncNet's evaluation computes it, offset search included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..audio.mel import MelFrontEnd
from ..networks.speech_encoder import MEL_PER_FRAME
from .codec import to_tensor
from .mini import MEL
from .syncnet import WINDOW_FRAMES, SyncNet

_LARGEST_REACH, _SMALLEST_REACH = 15, 3


@dataclass(frozen=True)
class SyncScore:
    """confidence: Sync-C, higher is better; distance: Sync-D, lower is better; offset: frames by which the sound comes
    before its picture.
    """

    confidence: float
    distance: float
    offset: int


def reach(frames: int) -> int:
    """Shifts in frames, to both sides, that a clip is searched over: 15 as in the field, less for short clips.

    (F - 5) // 2, at least 3, so that half of a long clip's windows meet at the largest shift.
    Raises ValueError below 8 frames.
    """
    windows = frames - WINDOW_FRAMES + 1
    if windows <= _SMALLEST_REACH:
        raise ValueError(
            f"a clip of {frames} frames cannot be searched for its offset; give at least "
            f"{_SMALLEST_REACH + WINDOW_FRAMES}"
        )
    return min(_LARGEST_REACH, max(_SMALLEST_REACH, (windows - 1) // 2))


def shift_distances(lips_BWD: Tensor, speech_BWD: Tensor, *, reach: int) -> Tensor:
    """Mean L2 distance of lip window i to speech window i + s, for s = -reach .. reach -> (B, 2 reach + 1).

    The mean is over windows that both have (SyncNet's script lays zeros beside the speech, which short clips feel).
    """
    windows = lips_BWD.shape[1]
    means = []
    for shift in range(-reach, reach + 1):
        first, last = max(0, -shift), windows - max(0, shift)
        gap = lips_BWD[:, first:last] - speech_BWD[:, first + shift : last + shift]
        means.append(gap.norm(dim=-1).mean(dim=1))
    return torch.stack(means, dim=1)


def confidence_distance_offset(distances_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances per shift -> confidence (median - min), distance (min), offset in frames (int64), each (B,)."""
    least, index = distances_BS.min(dim=1)
    median = distances_BS.median(dim=1).values
    return median - least, least, distances_BS.shape[1] // 2 - index


@torch.no_grad()
def score_embeddings(lips_WD: Tensor, speech_WD: Tensor) -> SyncScore:
    """Score one clip from the embeddings of its windows."""
    distances = shift_distances(lips_WD[None], speech_WD[None], reach=reach(len(lips_WD) + WINDOW_FRAMES - 1))
    confidence, distance, offset = confidence_distance_offset(distances)
    return SyncScore(confidence.item(), distance.item(), int(offset))


@torch.no_grad()
def score_frames(
    syncnet: SyncNet, frames: np.ndarray, samples: np.ndarray, place: np.ndarray | None = None
) -> SyncScore:
    """Score a clip: frames (F, H, W, 3) uint8 at 25 fps, samples (S,) at 16 kHz, mouth boxes (F, 4) if known.

    Raises ValueError where the sound is shorter than the pictures.
    """
    mel = MelFrontEnd(MEL).whole(samples.astype(np.float32))[: MEL_PER_FRAME * len(frames)]
    if len(mel) < MEL_PER_FRAME * len(frames):
        raise ValueError(
            f"the sound lasts {len(mel) // MEL_PER_FRAME} frames and the video {len(frames)}; pad it with silence"
        )
    boxes = None if place is None else torch.from_numpy(np.asarray(place, np.float32))[None]
    lips = syncnet.embed_lips(to_tensor(frames[None]), boxes)
    return score_embeddings(lips[0], syncnet.embed_speech(torch.from_numpy(mel)[None])[0])
