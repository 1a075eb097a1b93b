"""Stage 2: the speech encoder, as a plain regressor of what speech does to a face. The student's ceiling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio.mel import MelFrontEnd, MelSettings
from ..networks.speech_encoder import MEL_PER_FRAME, SpeechEncoder, SpeechEncoderConfig
from .augment import augment, mask_mel, tilt_mel, warp_mel
from .initialisation import initialise
from .muon import make_optimisers
from .parallel import draw, update
from .precision import half_precision
from .world.blinks import pause_blinks
from .world.clips import FPS, check_domains, random_speech
from .world.dataset import spawned_pool
from .world.visemes import MOUTH_NAMES

FACE_NAMES = (*MOUTH_NAMES, "eyes")


@dataclass(frozen=True)
class SpeechSettings:
    """Numbers of the speech stage: clips of audio alone, augmented versions of each, and the optimiser.

    quiet_share: clips in which nobody speaks, so that noise alone never opens a mouth. dropout: share of the residual
    blocks' channels that a step leaves out. domains: what the clips say, one
    of these each.
    """

    clips: int = 400
    quiet_share: float = 0.06
    clip_frames: int = 125
    versions: int = 3
    held_out_clips: int = 40
    batch: int = 32
    crop_frames: int = 100
    matrix_lr: float = 0.01
    other_lr: float = 0.002
    dropout: float = 0.1
    domains: tuple[str, ...] = ("speaking",)
    seed: int = 0

    def __post_init__(self) -> None:
        check_domains(self.domains)


@dataclass(frozen=True)
class SpeechBank:
    """Mel frames (N, 4F, bins) float16 and true mouths (N, F, 5) float32; N counts clips times versions."""

    mel: np.ndarray
    mouth: np.ndarray


class FaceRegressor(nn.Module):
    """Speech encoder and a linear reading of the face from its features, as linear as what AudioPack does to them."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(config)
        self.face = nn.Linear(config.width, len(FACE_NAMES))

    def forward(self, mel_BAM: Tensor) -> Tensor:
        """(B, 4A, bins) -> (B, A, 6), about [0, 1], the columns of FACE_NAMES."""
        return self.face(self.encoder(mel_BAM))


def make_bank(settings: SpeechSettings, mel: MelSettings, *, held_out: bool, workers: int = 1) -> SpeechBank:
    """Speak, augment and analyse; the first version of every clip stays clean."""
    clips = range(settings.held_out_clips if held_out else settings.clips)
    speak_clip = partial(_speak_clip, settings=settings, mel=mel, held_out=held_out)
    if workers == 1:
        made = [speak_clip(clip) for clip in clips]
    else:
        with spawned_pool(workers) as pool:
            made = list(pool.map(speak_clip, clips, chunksize=16))
    versions = len(made[0][0])
    return SpeechBank(
        np.concatenate([spectra for spectra, _ in made]),
        np.repeat([mouth for _, mouth in made], versions, axis=0),
    )


def _speak_clip(
    clip: int, *, settings: SpeechSettings, mel: MelSettings, held_out: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mel frames of every version of one clip (versions, 4F, bins) float16, and its mouth (F, 5)."""
    front_end = MelFrontEnd(mel)
    random = np.random.default_rng([settings.seed, clip, int(held_out), 7])
    quiet = not held_out and random.random() < settings.quiet_share
    lead = _lead_seconds(random, settings, quiet=quiet)
    domain = settings.domains[clip % len(settings.domains)]
    samples, mouth = random_speech(
        random, settings.clip_frames, held_out=held_out, lead_seconds=lead, domain=domain
    )
    waves = [samples] + [augment(samples, random) for _ in range(0 if held_out else settings.versions - 1)]
    return np.stack([front_end.whole(wave) for wave in waves]).astype(np.float16), mouth


def _lead_seconds(random: np.random.Generator, settings: SpeechSettings, *, quiet: bool) -> float | None:
    """When the first sentence begins: after the clip's end, or as ordinary clips begin, or before the clip."""
    if quiet:
        return settings.clip_frames / FPS
    return None if random.random() < 0.5 else -random.uniform(0.3, 1.5)


def save_speech_bank(path: Path, bank: SpeechBank) -> None:
    """Write a bank as one npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, mel=bank.mel, mouth=bank.mouth)


def load_speech_bank(path: Path) -> SpeechBank:
    """Read what save_speech_bank wrote."""
    with np.load(path) as arrays:
        return SpeechBank(arrays["mel"], arrays["mouth"])


def mean_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson r along frames, (N, F) against (N, F), averaged over rows; flat rows count as 0."""
    a = first - first.mean(axis=1, keepdims=True)
    b = second - second.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return float(((a * b).sum(axis=1) / np.maximum(scale, 1e-9)).mean())


def faces_of(bank: SpeechBank) -> np.ndarray:
    """What speech tells of a face, (N, F, 6), columns FACE_NAMES: the mouth, and eyes that close when it pauses."""
    eyes = np.stack([pause_blinks(mouth) for mouth in bank.mouth])
    return np.concatenate([bank.mouth, eyes[..., None].astype(np.float32)], axis=2)


class SpeechStage:
    """Trains a FaceRegressor on crops of the bank."""

    def __init__(
        self,
        settings: SpeechSettings,
        speech: SpeechEncoderConfig,
        bank: SpeechBank,
        held_out: SpeechBank,
        *,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        self.settings, self._bank, self._held_out, self._device = settings, bank, held_out, device
        self._faces, self._held_out_faces = faces_of(bank), faces_of(held_out)
        self.regressor = FaceRegressor(speech)
        frames_before = math.ceil(speech.past_mel / MEL_PER_FRAME)
        frames_after = math.ceil(speech.ahead_mel / MEL_PER_FRAME)
        self._inner = slice(frames_before, settings.crop_frames - frames_after)  # with all of their window
        initialise(self.regressor, torch.Generator().manual_seed(settings.seed))
        self.regressor.to(device)
        for block in self.regressor.encoder.blocks:
            block.dropout = settings.dropout
        self.optimisers = make_optimisers(
            self.regressor, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr
        )

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One update on one batch of crops."""
        s = self.settings
        random = draw(s.seed, step).own
        mel, faces = [], []
        for _ in range(s.batch):
            clip = random.integers(len(self._bank.mel))
            first = random.integers(s.clip_frames - s.crop_frames + 1)
            mel.append(self._bank.mel[clip, first * MEL_PER_FRAME : (first + s.crop_frames) * MEL_PER_FRAME])
            faces.append(self._faces[clip, first : first + s.crop_frames])
        target = torch.from_numpy(np.stack(faces)).to(self._device)
        heard = warp_mel(np.stack(mel).astype(np.float32), random)
        heard = mask_mel(tilt_mel(heard, random), random)
        with half_precision(self._device):
            output = self.regressor(torch.from_numpy(heard).to(self._device)).float()
        loss = F.mse_loss(output[:, self._inner], target[:, self._inner])
        update(self.optimisers, loss, self.regressor)
        return {"face_mse": loss.item()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Correlation of the predicted with the true face on unseen sentences and voices."""
        mel = torch.from_numpy(self._held_out.mel).float().to(self._device)
        self.regressor.eval()
        output = self.regressor(mel).cpu().numpy()
        self.regressor.train()
        truth = self._held_out_faces
        told = [name for name in FACE_NAMES if name not in ("teeth", "tongue")]
        return {
            f"r_{name}": mean_correlation(*(of[..., FACE_NAMES.index(name)] for of in (output, truth)))
            for name in told
        }

    def state_dict(self) -> dict[str, Any]:
        """The regressor's weights."""
        return {"regressor": self.regressor.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.regressor.load_state_dict(state["regressor"])
