"""Stage 2: the speech encoder, as a plain audio-to-mouth regressor. Its correlation is the student's ceiling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio.mel import MelFrontEnd, MelSettings
from ..networks.speech_encoder import MEL_PER_FRAME, SpeechEncoder, SpeechEncoderConfig
from .augment import augment, warp_mel
from .initialisation import initialise
from .muon import make_optimisers
from .parallel import draw, update
from .precision import half_precision
from .world.clips import FPS, check_domains, random_speech
from .world.visemes import MOUTH_NAMES


@dataclass(frozen=True)
class SpeechSettings:
    """Numbers of the speech stage: clips of audio alone, augmented versions of each, and the optimiser.

    quiet_share: clips in which nobody speaks, so that noise alone never opens a mouth. domains: what the clips say, one
    of these each.
    """

    clips: int = 400
    quiet_share: float = 0.06
    clip_frames: int = 125
    versions: int = 3
    held_out_clips: int = 40
    batch: int = 32
    crop_frames: int = 75
    matrix_lr: float = 0.01
    other_lr: float = 0.002
    domains: tuple[str, ...] = ("speaking",)
    seed: int = 0

    def __post_init__(self) -> None:
        check_domains(self.domains)


@dataclass(frozen=True)
class SpeechBank:
    """Mel frames (N, 4F, bins) float16 and true mouths (N, F, 5) float32; N counts clips times versions."""

    mel: np.ndarray
    mouth: np.ndarray


class MouthRegressor(nn.Module):
    """Speech encoder and a linear reading of the mouth from its features, as linear as what AudioPack does to them."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(config)
        self.mouth = nn.Linear(config.width, len(MOUTH_NAMES))

    def forward(self, mel_BAM: Tensor) -> Tensor:
        """(B, 4A, bins) -> mouth (B, A, 5), about [0, 1]."""
        return self.mouth(self.encoder(mel_BAM))


def make_bank(settings: SpeechSettings, mel: MelSettings, *, held_out: bool) -> SpeechBank:
    """Speak, augment and analyse; the first version of every clip stays clean."""
    front_end = MelFrontEnd(mel)
    clips = settings.held_out_clips if held_out else settings.clips
    versions = 1 if held_out else settings.versions
    spectra, mouths = [], []
    for clip in range(clips):
        random = np.random.default_rng([settings.seed, clip, int(held_out), 7])
        quiet = not held_out and random.random() < settings.quiet_share
        lead = _lead_seconds(random, settings, quiet=quiet)
        domain = settings.domains[clip % len(settings.domains)]
        samples, mouth = random_speech(
            random, settings.clip_frames, held_out=held_out, lead_seconds=lead, domain=domain
        )
        for version in range(versions):
            wave = augment(samples, random) if version else samples
            spectra.append(front_end.whole(wave).astype(np.float16))
            mouths.append(mouth)
    return SpeechBank(np.stack(spectra), np.stack(mouths))


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


class SpeechStage:
    """Trains a MouthRegressor on crops of the bank."""

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
        self.regressor = MouthRegressor(speech)
        frames_before = math.ceil(speech.past_mel / MEL_PER_FRAME)
        frames_after = math.ceil(speech.ahead_mel / MEL_PER_FRAME)
        self._inner = slice(frames_before, settings.crop_frames - frames_after)  # with all of their window
        initialise(self.regressor, torch.Generator().manual_seed(settings.seed))
        self.regressor.to(device)
        self.optimisers = make_optimisers(
            self.regressor, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr
        )

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One update on one batch of crops."""
        s = self.settings
        random = draw(s.seed, step).own
        mel, mouth = [], []
        for _ in range(s.batch):
            clip = random.integers(len(self._bank.mel))
            first = random.integers(s.clip_frames - s.crop_frames + 1)
            mel.append(self._bank.mel[clip, first * MEL_PER_FRAME : (first + s.crop_frames) * MEL_PER_FRAME])
            mouth.append(self._bank.mouth[clip, first : first + s.crop_frames])
        target = torch.from_numpy(np.stack(mouth)).to(self._device)
        heard = warp_mel(np.stack(mel).astype(np.float32), random)
        with half_precision(self._device):
            output = self.regressor(torch.from_numpy(heard).to(self._device)).float()
        loss = F.mse_loss(output[:, self._inner], target[:, self._inner])
        update(self.optimisers, loss, self.regressor)
        return {"mouth_mse": loss.item()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Correlation of the predicted with the true mouth on unseen sentences and voices."""
        mel = torch.from_numpy(self._held_out.mel).float().to(self._device)
        output = self.regressor(mel).cpu().numpy()
        truth = self._held_out.mouth
        names = MOUTH_NAMES[:3]
        return {f"r_{name}": mean_correlation(output[..., i], truth[..., i]) for i, name in enumerate(names)}

    def state_dict(self) -> dict[str, Any]:
        """The regressor's weights."""
        return {"regressor": self.regressor.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.regressor.load_state_dict(state["regressor"])
