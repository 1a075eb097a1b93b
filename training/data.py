"""Drawn clips -> what students train on: latents, mel frames, true mouths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.mel import MelFrontEnd, MelSettings
from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.causal_vae import CausalVAE, normalise_latents
from ..networks.speech_encoder import MEL_PER_FRAME
from ..streaming.mouth_mask import MouthMask
from .augment import augment, warp_mel
from .codec import to_tensor
from .conditions import Condition, LipSyncCondition, PortraitCondition
from .export import fold_latent_statistics
from .precision import half_precision
from .world.acting import DOMAINS
from .world.dataset import Dataset
from .world.pose import POSE_NAMES


@dataclass(frozen=True)
class LatentBank:
    """Whole clips: latents (N, C, T, H, W) float16 in student units, mel (N, V, 4F, bins) float16 with V versions of
    the same speech (the first is clean), mouth (N, F, 5) float32; F = 4T - 3.

    For a student without a speech encoder of its own, mel holds what another one (wav2vec2) has made of the speech: one
    vector per frame, (N, V, F, width).

    For lip sync also source, the latents of the video that the clip dubs, and masked, those of that video with its
    mouth blanked; both like latents. domain (N,) int8 and place (N, F, 4) float32 as Dataset has them, eyes (N, F)
    float32 how far they are open; None in banks that were made without.
    """

    latents: np.ndarray
    mel: np.ndarray
    mouth: np.ndarray
    source: np.ndarray | None = None
    masked: np.ndarray | None = None
    domain: np.ndarray | None = None
    place: np.ndarray | None = None
    eyes: np.ndarray | None = None

    def clips_of(self, domains: tuple[str, ...]) -> np.ndarray:
        """Indices of the clips of some domains; all for none. Raises ValueError where there are no such clips."""
        if not domains:
            return np.arange(len(self.latents))
        unknown = sorted(set(domains) - set(DOMAINS))
        if unknown:
            raise ValueError(f"domains are {list(domains)}; expected some of {', '.join(DOMAINS)}")
        if self.domain is None:
            raise ValueError(f"the bank does not say which clips are {list(domains)}; encode it again")
        found = np.flatnonzero(np.isin(self.domain, [DOMAINS.index(name) for name in domains]))
        if not len(found):
            raise ValueError(f"the bank holds no clip of {list(domains)}; draw a data set with these domains")
        return found

    def condition(self, clips: np.ndarray, latents: int) -> Condition:
        """What the student sees of these clips beside the noise, cut to a number of latents."""
        if self.source is None or self.masked is None:
            return PortraitCondition(_float(self.latents[clips][:, :, :1]))
        seen = (_float(array[clips][:, :, :latents]) for array in (self.source, self.masked))
        return LipSyncCondition(*seen, MouthMask.drawn().latents(*self.latents.shape[-2:]))


@torch.no_grad()
def encode_pixels(vae: CausalVAE, pixels_BCTHW: Tensor) -> Tensor:
    """Frames in [-1, 1] -> raw latents (B, C, T, h, w) float32."""
    device = vae.conv1.weight.device
    with half_precision(device):
        return vae.encode(pixels_BCTHW.to(device)).float().cpu()


def encode_normalised(vae: CausalVAE, pixels_BCTHW: Tensor) -> Tensor:
    """Frames in [-1, 1] -> latents in student units (B, C, T, h, w) float32; the codec's statistics are folded."""
    return normalise_latents(encode_pixels(vae, pixels_BCTHW))


def encode_clips(vae: CausalVAE, frames: np.ndarray) -> Tensor:
    """(N, F, H, W, 3) uint8 -> raw latents (N, C, T, h, w) float32, clip by clip."""
    return torch.cat([encode_pixels(vae, to_tensor(clip[None])) for clip in frames])


def freeze_codec(vae: CausalVAE, frames: np.ndarray) -> None:
    """Give the codec's latents Wan's statistics, as measured on these clips (N, F, H, W, 3)."""
    latents = encode_clips(vae, frames)
    axes = (0, 2, 3, 4)
    fold_latent_statistics(vae, latents.mean(axes), latents.std(axes))


def mel_versions(samples: np.ndarray, front_end: MelFrontEnd, *, versions: int, seed: int) -> np.ndarray:
    """(S,) -> (V, 4F, bins) float16: the clean speech, then augmented ones."""
    random = np.random.default_rng(seed)
    waves = [samples.astype(np.float32)]
    waves += [augment(waves[0], random) for _ in range(versions - 1)]
    return np.stack([front_end.whole(wave) for wave in waves]).astype(np.float16)


def make_latent_bank(data: Dataset, vae: CausalVAE, mel: MelSettings, *, versions: int) -> LatentBank:
    """Encode every clip with a codec whose statistics are folded."""
    front_end = MelFrontEnd(mel)
    latents = [encode_normalised(vae, to_tensor(clip[None])) for clip in data.frames]
    spectra = [
        mel_versions(samples, front_end, versions=versions, seed=index)
        for index, samples in enumerate(data.samples)
    ]
    domain, place = (None if array is None else np.array(array) for array in (data.domain, data.place))
    eyes = None if data.pose is None else data.pose[:, :, POSE_NAMES.index("eyes_open")].astype(np.float32)
    return LatentBank(
        _stacked(latents), np.stack(spectra), np.array(data.mouth), domain=domain, place=place, eyes=eyes
    )


def make_lipsync_bank(
    data: Dataset, dubbed: Dataset, vae: CausalVAE, mel: MelSettings, *, versions: int
) -> LatentBank:
    """Encode clips, the same with their mouths blanked, and what generate_dubbed drew of them.

    Both ways: first the clips as source and the drawn ones as latents, then, with the clips' own speech, the other way
    round. The mask holds all in which the two differ, so blanked they are the same.
    """
    mask = MouthMask.drawn()
    there, back = (make_latent_bank(clips, vae, mel, versions=versions) for clips in (dubbed, data))
    masked = [encode_normalised(vae, mask.blank(to_tensor(clip[None]))) for clip in data.frames]
    there = replace(there, source=back.latents, masked=_stacked(masked))
    return _joined(there, replace(back, source=there.latents, masked=there.masked))


def _joined(*banks: LatentBank) -> LatentBank:
    """The clips of several banks that hold the same, in one."""
    parts = {item.name: [getattr(bank, item.name) for bank in banks] for item in fields(LatentBank)}
    return LatentBank(
        **{name: None if part[0] is None else np.concatenate(part) for name, part in parts.items()}
    )


def _stacked(latents: list[Tensor]) -> np.ndarray:
    """Latents (1, ...) of clips -> (N, ...) float16."""
    return torch.cat(latents).half().numpy()


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).float()


def save_bank(path: Path, bank: LatentBank) -> None:
    """Write a bank as one npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {item.name: getattr(bank, item.name) for item in fields(bank)}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def load_bank(path: Path) -> LatentBank:
    """Read what save_bank wrote."""
    with np.load(path) as arrays:
        return LatentBank(**arrays)


@dataclass(frozen=True)
class Batch:
    """Clips for one update: latents (B, C, T, H, W), mel (B, 4F, bins), true mouths (B, F, 5), and what lies beside the
    noise; float32. domain (B,) int64, place (B, F, 4) and eyes (B, F) where the bank has them.
    """

    latents: Tensor
    mel: Tensor
    mouth: Tensor
    condition: Condition
    domain: Tensor | None = None
    place: Tensor | None = None
    eyes: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return self._each(lambda part: part.to(device))

    def rows(self, chosen_B: Tensor | list[int]) -> Batch:
        """Some clips of the batch, chosen by bool or by index."""
        return self._each(lambda part: part[chosen_B] if isinstance(part, Tensor) else part.rows(chosen_B))

    def _each(self, change: Callable[[Any], Any]) -> Batch:
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return Batch(**{name: None if part is None else change(part) for name, part in parts.items()})


def draw_batch(
    bank: LatentBank, random: np.random.Generator, *, clips: int, latents: int, warp: bool = False,
    domains: tuple[str, ...] = (),
) -> Batch:  # fmt: skip
    """Random clips from their start, cut to a number of latents, each with a random version of its speech.

    warp: let another throat say it, see augment.warp_mel; what is no mel stays. domains: only clips of these, all for
    none.
    """
    among = bank.clips_of(domains)
    chosen = among[random.integers(len(among), size=clips)]
    versions = random.integers(bank.mel.shape[1], size=clips)
    batch = take_batch(bank, chosen, versions, latents=latents)
    if not (warp and _is_mel(bank)):
        return batch
    return replace(batch, mel=torch.from_numpy(warp_mel(batch.mel.numpy(), random)))


def take_batch(bank: LatentBank, clips: np.ndarray, versions: np.ndarray, *, latents: int) -> Batch:
    """These clips from their start, cut to a number of latents, each with one version of its speech."""
    frames = FRAMES_PER_LATENT * latents - 3
    rows = MEL_PER_FRAME if _is_mel(bank) else 1
    return Batch(
        latents=_float(bank.latents[clips][:, :, :latents]),
        mel=_float(bank.mel[clips, versions][:, : frames * rows]),
        mouth=_float(bank.mouth[clips, :frames]),
        condition=bank.condition(clips, latents),
        domain=None if bank.domain is None else torch.from_numpy(bank.domain[clips].astype(np.int64)),
        place=None if bank.place is None else _float(bank.place[clips, :frames]),
        eyes=None if bank.eyes is None else _float(bank.eyes[clips, :frames]),
    )


def _is_mel(bank: LatentBank) -> bool:
    """Whether the speech is mel frames, not one vector of another encoder per video frame."""
    return bank.mel.shape[2] != bank.mouth.shape[1]
