"""The decoder as refiner: it learns to show well what a finished student makes (EchoTorrent, section 3.5).

Encoder and student stay as they are; the decoder's weights alone are the result. Pictures are compared with true ones
where both show the same moment: on true latents that the student restored in one step. Of its free rollouts nobody
knows the true pictures; there a discriminator asks only for ones that look drawn (equations 4 and 5).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.cache_spec import CacheSpec
from ..networks.causal_vae import CausalVAE, denormalise_latents
from ..samplers.schedule import Schedule
from ..streaming.decoder import StreamingDecoder
from .aligned import restore
from .codec import to_tensor
from .data import Batch, LatentBank, take_batch
from .discriminator import PatchDiscriminator, frame_groups
from .ema import ExponentialAverage
from .losses import adversarial_loss, discriminator_loss, gradient_penalty, pixel_loss, psnr
from .muon import make_optimisers
from .parallel import apply_gradients, draw, update
from .precision import half_precision
from .quick_codec import quicken
from .rollout import Rollout, roll_out
from .student import TrainableStudent
from .world.dataset import Dataset

_SHORTEST_WINDOW = 5  # latents: 17 frames at a stream's start
_EVALUATION_CLIPS = 4


class Perceive(Protocol):
    """A distance of pictures as a network sees them: clips (B, 3, F, H, W) in [-1, 1] -> a number, 0 for equal ones.

    No gradient reaches the second.
    """

    def __call__(self, output_BCTHW: Tensor, target_BCTHW: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class RefinerSettings:
    """Numbers of the refiner stage.

    window: latents that are decoded with a gradient; the ones before them are decoded too, as in a stream.
    rollout_chunks: the length to which free rollouts are strung together. adversarial_start: share of the budget in
    which the discriminator learns alone. span, width: see PatchDiscriminator. penalty: weight of its gradient penalty.
    """

    window: int = 5
    rollout_chunks: int = 5
    pixel_share: float = 1.0
    perceptual_share: float = 0.5
    adversarial_share: float = 0.02
    adversarial_start: float = 0.1
    span: int = 4
    width: int = 32
    penalty: float = 1.0
    matrix_lr: float = 0.001
    other_lr: float = 0.0003
    discriminator_lr: float = 0.0002
    ema_decay: float = 0.99
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window < _SHORTEST_WINDOW:
            raise ValueError(
                f"window is {self.window} latents; give at least {_SHORTEST_WINDOW}, so that clips have 17 frames"
            )


def decode_window(vae: CausalVAE, latents_BCTHW: Tensor, first: int) -> Tensor:
    """Latents of streams from their start, in student units -> frames (B, 3, F, 8H, 8W) of those from `first` on.

    Decoded exactly as a stream is, with what the latents before carry; only the latents from `first` on and what they
    carry among themselves record a gradient.
    """
    decoder = StreamingDecoder(vae, exact=True)
    raw, device = denormalise_latents(latents_BCTHW), latents_BCTHW.device
    if first:
        with torch.no_grad(), half_precision(device):
            decoder.decode_recorded(raw[:, :, :first])
    with half_precision(device):
        return decoder.decode_recorded(raw[:, :, first:]).float()


def window_frames(first: int, latents: int) -> slice:
    """Frames of the clip that latents from `first` on show."""
    start = FRAMES_PER_LATENT * first - 3 if first else 0
    return slice(start, FRAMES_PER_LATENT * (first + latents) - 3)


class RefinerStage:
    """Trains the decoder and, against it, a discriminator."""

    def __init__(
        self,
        settings: RefinerSettings,
        data: Dataset,
        held_out: Dataset,
        *,
        banks: tuple[LatentBank, LatentBank],
        vae: CausalVAE,
        student: TrainableStudent,
        cache: CacheSpec,
        schedule: Schedule,
        perceive: Perceive,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        """data, held_out: the frames of the banks' clips, in their order. Raises ValueError where they differ in
        number, or the clips are shorter than a window.
        """
        for clips, bank in zip((data, held_out), banks, strict=True):
            _require_pairs(clips, bank, settings, cache)
        self.settings, self._data, self._held_out = settings, data, held_out
        self._bank, self._held_out_bank = banks
        self._cache, self._schedule, self._perceive, self._device = cache, schedule, perceive, device
        self._student = student.eval().requires_grad_(False).to(device)
        self.vae = vae.requires_grad_(False).to(device)
        self._plain = copy.deepcopy(self.vae)
        if device.type == "cpu":
            quicken(self.vae)
        self.vae.decoder.requires_grad_(True)
        generator = torch.Generator().manual_seed(settings.seed)
        self.discriminator = PatchDiscriminator(settings.span, settings.width, generator).to(device)
        self._decoder_optimisers = make_optimisers(
            self.vae.decoder, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr,
            keep_adam=lambda name: name == "head.2.weight",
        )  # fmt: skip
        self._discriminator_optimiser = torch.optim.AdamW(
            self.discriminator.parameters(), lr=settings.discriminator_lr, betas=(0.5, 0.99), weight_decay=0.0
        )
        self.optimisers = [*self._decoder_optimisers, self._discriminator_optimiser]
        self.average = ExponentialAverage(self.vae.decoder, decay=settings.ema_decay)

    def _draw(self, bank: LatentBank, clip: int, random: np.random.Generator, *, latents: int) -> Batch:
        """One clip from its start, with a random version of its speech."""
        version = random.integers(bank.mel.shape[1], size=1)
        return take_batch(bank, np.array([clip]), version, latents=latents).to(self._device)

    def _speech(self, batch: Batch) -> Tensor:
        with torch.no_grad(), half_precision(self._device):
            return self._student.features(batch.mel)

    def _aligned(
        self, bank: LatentBank, clip: int, end: int, random: np.random.Generator, generator: torch.Generator
    ) -> Tensor:
        """A clip's true latents up to `end`, each chunk restored by the student's last step."""
        chunks = -(-end // self._cache.chunk)
        batch = self._draw(bank, clip, random, latents=chunks * self._cache.chunk)
        restored = restore(
            self._student, batch.latents, schedule=self._schedule, cache=self._cache,
            condition=batch.condition, speech_BTV=self._speech(batch), generator=generator,
        )  # fmt: skip
        return restored[:, :, :end]

    def _free(self, clip: int, random: np.random.Generator, generator: torch.Generator) -> Tensor:
        """What the student makes of a clip's speech and reference, segment after segment on its own past."""
        chunks = min(self.settings.rollout_chunks, self._bank.latents.shape[2] // self._cache.chunk)
        batch = self._draw(self._bank, clip, random, latents=chunks * self._cache.chunk)
        rollout = Rollout(
            self._student, schedule=self._schedule, cache=self._cache, condition=batch.condition,
            speech_BTV=self._speech(batch), generator=generator,
        )  # fmt: skip
        return roll_out(rollout, chunks)

    def _frames(self, data: Dataset, clip: int, frames: slice) -> Tensor:
        return to_tensor(data.frames[clip : clip + 1, frames]).to(self._device)

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One update of the discriminator and of the decoder, on one aligned and one free window."""
        s = self.settings
        drawn = draw(s.seed, step)
        random, generator = drawn.own, drawn.noise
        clip, other = (int(c) for c in random.integers(len(self._data.frames), size=2))
        whole = self._bank.latents.shape[2] // self._cache.chunk * self._cache.chunk
        first = int(drawn.shared.integers(whole - s.window + 1))
        aligned = self._aligned(self._bank, clip, first + s.window, random, generator)
        truth = self._frames(self._data, clip, window_frames(first, s.window))
        made = self._free(other, random, generator)
        first_made = int(drawn.shared.integers(made.shape[2] - s.window + 1))
        with torch.set_grad_enabled(progress >= s.adversarial_start):
            shown = decode_window(self.vae, made[:, :, : first_made + s.window], first_made)
        report = self._teach_discriminator(truth, shown.detach(), offset=int(random.integers(s.span)))
        adversarial = adversarial_loss(self.discriminator(frame_groups(shown, s.span)))
        if shown.requires_grad:
            (s.adversarial_share * adversarial).backward()
        output = decode_window(self.vae, aligned, first)
        pixels, perceived = pixel_loss(output, truth), self._perceive(output, truth)
        (s.pixel_share * pixels + s.perceptual_share * perceived).backward()
        apply_gradients(self._decoder_optimisers, self.vae.decoder, max_norm=1.0)
        self._discriminator_optimiser.zero_grad(set_to_none=True)
        self.average.update(self.vae.decoder)
        losses = {"pixels": pixels, "perceived": perceived, "adversarial": adversarial}
        return report | {name: loss.item() for name, loss in losses.items()}

    def _teach_discriminator(self, truth: Tensor, shown: Tensor, *, offset: int) -> dict[str, float]:
        """One update on true frames and on shown ones, in groups from frame `offset` on."""
        span = self.settings.span
        real = frame_groups(truth, span, offset=offset).requires_grad_(True)
        said_of_real = self.discriminator(real)
        said_of_shown = self.discriminator(frame_groups(shown, span, offset=offset))
        loss = discriminator_loss(said_of_real, said_of_shown)
        penalty = gradient_penalty(said_of_real, real)
        whole = loss + self.settings.penalty / 2 * penalty
        update([self._discriminator_optimiser], whole, self.discriminator)
        right = ((said_of_real > 0).float().mean() + (said_of_shown < 0).float().mean()) / 2
        return {"discriminator": loss.item(), "right": right.item()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """On held-out clips: PSNR in dB and perceived distance of restored latents, by the decoder of before and by the
        averaged one; PSNR of the true latents by both, which is the codec's own.
        """
        numbers: dict[str, list[float]] = {}
        window = self.settings.window
        for clip in range(min(_EVALUATION_CLIPS, len(self._held_out.frames))):
            random, generator = np.random.default_rng(clip), torch.Generator().manual_seed(clip)
            restored = self._aligned(self._held_out_bank, clip, window + 1, random, generator)
            true = self._draw(self._held_out_bank, clip, random, latents=window + 1).latents
            frames = self._frames(self._held_out, clip, window_frames(1, window))
            with self.average.applied_to(self.vae.decoder):
                for name, vae in (("before", self._plain), ("refined", self.vae)):
                    output = decode_window(vae, restored, 1).clamp(-1, 1)
                    numbers.setdefault(f"psnr_{name}", []).append(psnr(output, frames))
                    numbers.setdefault(f"perceived_{name}", []).append(self._perceive(output, frames).item())
                    codec = decode_window(vae, true, 1).clamp(-1, 1)
                    numbers.setdefault(f"codec_{name}", []).append(psnr(codec, frames))
        return {name: sum(values) / len(values) for name, values in numbers.items()}

    def state_dict(self) -> dict[str, Any]:
        """What learns, and the decoder's running average."""
        return {
            "decoder": self.vae.decoder.state_dict(), "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.vae.decoder.load_state_dict(state["decoder"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.average.load_state_dict(state["average"])


def _require_pairs(clips: Dataset, bank: LatentBank, settings: RefinerSettings, cache: CacheSpec) -> None:
    if len(clips.frames) != len(bank.latents):
        raise ValueError(
            f"there are frames of {len(clips.frames)} clips and latents of {len(bank.latents)}; encode the clips again"
        )
    whole = bank.latents.shape[2] // cache.chunk * cache.chunk
    if whole <= settings.window:
        raise ValueError(
            f"the clips have {whole} latents in whole chunks; a window of {settings.window} needs more: draw longer"
        )
