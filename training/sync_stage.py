"""The sync teacher's stage: SyncNet by contrast, on drawn mouths and the speech that moves them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.mel import MelFrontEnd
from ..networks.speech_encoder import MEL_PER_FRAME
from .augment import warp_mel
from .augment_pictures import degraded, moved_boxes
from .codec import to_tensor
from .crops import cut, mouth_boxes
from .data import mel_versions
from .initialisation import initialise
from .mini import MEL
from .muon import make_optimisers
from .parallel import draw, update
from .sync_score import score_embeddings
from .syncnet import SyncNet, SyncNetConfig
from .world.dataset import Dataset


@dataclass(frozen=True)
class SyncNetSettings:
    """Numbers of the stage. clips, frames: of one batch; every window of it is a pair.

    ignored_shift: windows of one clip up to so many frames apart are neither a pair nor a contrast.
    temperature: of the softmax over cosines. versions: of each clip's speech, the first one clean.
    """

    clips: int = 8
    frames: int = 40
    ignored_shift: int = 2
    temperature: float = 0.1
    versions: int = 3
    matrix_lr: float = 0.01
    other_lr: float = 0.002
    seed: int = 0


def contrastive_loss(
    lips_BWD: Tensor, speech_BWD: Tensor, *, ignored_shift: int, temperature: float
) -> Tensor:
    """InfoNCE in both directions (van den Oord et al. 2018): each window finds its partner among all of the batch.

    -log softmax(cosine / temperature) at the partner, mean over windows and directions. Contrasts are the windows of
    other clips, and those of the same clip more than ignored_shift frames away.
    """
    clips, windows = lips_BWD.shape[:2]
    lips, speech = (F.normalize(x.flatten(0, 1), dim=-1) for x in (lips_BWD, speech_BWD))
    at = torch.arange(windows, device=lips.device)
    near = ((at[:, None] - at).abs() <= ignored_shift) & (at[:, None] != at)
    ignored = torch.block_diag(*[near] * clips)
    cosine = (lips @ speech.T / temperature).masked_fill(ignored, -torch.inf)
    partner = torch.arange(clips * windows, device=lips.device)
    return 0.5 * (F.cross_entropy(cosine, partner) + F.cross_entropy(cosine.T, partner))


class SyncNetStage:
    """Trains a SyncNet on stretches of drawn clips."""

    def __init__(
        self,
        settings: SyncNetSettings,
        data: Dataset,
        held_out: Dataset,
        *,
        config: SyncNetConfig = SyncNetConfig(),  # noqa: B008
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        length = data.frames.shape[1]
        if settings.frames > length:
            raise ValueError(f"frames is {settings.frames}; the clips have {length}: give at most that")
        self.settings, self._data, self._held_out, self._device = settings, data, held_out, device
        self.syncnet = SyncNet(config)
        initialise(self.syncnet, torch.Generator().manual_seed(settings.seed))
        self.syncnet.to(device)
        self.optimisers = make_optimisers(
            self.syncnet, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr
        )
        self._mel = _spectra(data, versions=settings.versions)
        self._held_out_mel = torch.from_numpy(_spectra(held_out, versions=1)[:, 0].astype(np.float32))

    def _batch(self, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mouth crops (B, F, 3, 32, 48) as codecs show them, and mel frames (B, 4F, bins) of other throats."""
        s, data = self.settings, self._data
        chosen = random.choice(len(data.frames), s.clips, replace=s.clips > len(data.frames))
        firsts = random.integers(data.frames.shape[1] - s.frames + 1, size=s.clips)
        versions = random.integers(s.versions, size=s.clips)
        pairs = list(zip(chosen, firsts, strict=True))
        pictures = np.concatenate([data.frames[c, f : f + s.frames] for c, f in pairs])
        place = None
        if data.place is not None:
            place = torch.from_numpy(np.concatenate([data.place[c, f : f + s.frames] for c, f in pairs]))
        boxes = moved_boxes(mouth_boxes(len(pictures), place).unflatten(0, (s.clips, s.frames)), random)
        crops = cut(to_tensor(pictures[:, None])[:, :, 0], boxes.flatten(0, 1)).unflatten(0, boxes.shape[:2])
        mel = np.stack([
            self._mel[c, v, MEL_PER_FRAME * f : MEL_PER_FRAME * (f + s.frames)]
            for (c, f), v in zip(pairs, versions, strict=True)
        ])  # fmt: skip
        heard = torch.from_numpy(warp_mel(mel.astype(np.float32), random))
        return degraded(crops, random).to(self._device), heard.to(self._device)

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One update on one batch of stretches."""
        s = self.settings
        crops, mel = self._batch(draw(s.seed, step).own)
        lips, speech = self.syncnet.embed_crops(crops), self.syncnet.embed_speech(mel)
        loss = contrastive_loss(lips, speech, ignored_shift=s.ignored_shift, temperature=s.temperature)
        update(self.optimisers, loss, self.syncnet)
        with torch.no_grad():
            apart = (lips - speech).norm(dim=-1).mean().item()
        return {"contrast": loss.item(), "pair_distance": apart}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Sync-C, Sync-D and share of right offsets of held-out clips; Sync-C with the next clip's speech."""
        lips = torch.cat([self._held_out_lips(clip) for clip in range(len(self._held_out.frames))])
        speech = self.syncnet.embed_speech(self._held_out_mel.to(self._device))
        own = [score_embeddings(a, b) for a, b in zip(lips, speech, strict=True)]
        other = [score_embeddings(a, b) for a, b in zip(lips, speech.roll(-1, 0), strict=True)]
        return {
            "sync_c": float(np.mean([s.confidence for s in own])),
            "sync_d": float(np.mean([s.distance for s in own])),
            "offset_right": float(np.mean([abs(s.offset) <= 1 for s in own])),
            "sync_c_other": float(np.mean([s.confidence for s in other])),
            "sync_d_other": float(np.mean([s.distance for s in other])),
        }

    def _held_out_lips(self, clip: int) -> Tensor:
        place = self._held_out.place
        boxes = None if place is None else torch.from_numpy(np.array(place[clip : clip + 1]))
        return self.syncnet.embed_lips(
            to_tensor(self._held_out.frames[clip : clip + 1]).to(self._device), boxes
        )

    def state_dict(self) -> dict[str, Any]:
        """The network's weights."""
        return {"syncnet": self.syncnet.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.syncnet.load_state_dict(state["syncnet"])


def _spectra(data: Dataset, *, versions: int) -> np.ndarray:
    """Mel frames of every clip (N, V, 4F, bins) float16."""
    front_end = MelFrontEnd(MEL)
    return np.stack(
        [mel_versions(s, front_end, versions=versions, seed=i) for i, s in enumerate(data.samples)]
    )
