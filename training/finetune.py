"""Stage 3: flow matching with a noise level per chunk (diffusion forcing), causal and, for a share of the steps,
bidirectional. The speech encoder stays as the stage before left it: it has heard many more voices than there are clips.

A causal sequence is what a stream's window holds: the first chunk (sink), the chunk before, the current chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.cache_spec import CacheSpec
from ..networks.masks import chunk_causal_mask
from ..networks.speech_encoder import SpeechEncoderConfig
from ..networks.wan import WanConfig
from ..samplers.flow_matching import add_noise, velocity_target
from ..samplers.schedule import TIMESTEP_SCALE, shift_sigma
from .data import Batch, LatentBank, draw_batch
from .ema import ExponentialAverage
from .losses import weighted_mse
from .muon import make_optimisers
from .student import TrainableStudent, importance, widen_input


@dataclass(frozen=True)
class FinetuneSettings:
    """Numbers of the flow-matching stage."""

    batch: int = 8
    matrix_lr: float = 0.01
    other_lr: float = 0.001
    shift: float = 5.0
    sampling_share: float = 0.5
    clean_context_share: float = 0.6
    bidirectional_share: float = 0.0
    audio_dropout: float = 0.08
    early_share: float = 0.35
    mouth_weight: float = 5.0
    eye_weight: float = 2.0
    ema_decay: float = 0.995
    seed: int = 0


@dataclass(frozen=True)
class Sequence:
    """A training sequence of chunks: latents (B, C, T, H, W), audio tokens' latents and which of them are real
    continuations. chunks: index of each chunk in its clip, per sequence place.
    """

    chunks: tuple[int, ...]
    chunk: int

    def latents(self) -> list[int]:
        """Indices of the latents in the clip."""
        return [c * self.chunk + i for c in self.chunks for i in range(self.chunk)]

    def learnable(self) -> list[bool]:
        """Per chunk: whether a stream would make it from what the sequence shows before it."""
        places = enumerate(self.chunks)
        return [c == place or place == len(self.chunks) - 1 for place, c in places]


def draw_sequence(
    random: np.random.Generator, *, clip_chunks: int, chunk: int, early_share: float
) -> Sequence:
    """First chunk, a later chunk's predecessor, that chunk; often the stream's first three."""
    last = 2 if random.random() < early_share else int(random.integers(2, clip_chunks))
    return Sequence((0, last - 1, last), chunk)


def draw_sigmas(
    random: np.random.Generator,
    shape: tuple[int, int],
    *,
    sampling: tuple[float, ...],
    share: float,
    shift: float,
) -> Tensor:
    """Noise levels (B, chunks): a share exactly at the sampler's levels, the rest uniform after the shift."""
    at_steps = random.choice(np.asarray(sampling), shape)
    spread = np.vectorize(shift_sigma)(random.uniform(0.02, 1.0, shape), shift)
    return torch.from_numpy(np.where(random.random(shape) < share, at_steps, spread)).float()


class FinetuneStage:
    """Trains the network on encoded clips, behind a speech encoder that is given."""

    def __init__(
        self,
        settings: FinetuneSettings,
        bank: LatentBank,
        held_out: LatentBank,
        *,
        network: WanConfig,
        speech: SpeechEncoderConfig,
        cache: CacheSpec,
        sigmas: tuple[float, ...],
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        """sigmas: the sampler's schedule, ending in 0. cache: the window that causal steps imitate."""
        self.settings, self._bank, self._held_out, self._cache = settings, bank, held_out, cache
        self._sampling, self._device = sigmas[:-1], device
        self.student = TrainableStudent(network, speech, torch.Generator().manual_seed(settings.seed)).to(
            device
        )
        self.student.encoder.requires_grad_(False)
        self.average = ExponentialAverage(self.student, decay=settings.ema_decay)
        self.optimisers = make_optimisers(
            self.student, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr, keep_adam=_keeps_adam
        )
        height, width = bank.latents.shape[-2:]
        self._importance = importance(height, width, mouth=settings.mouth_weight, eyes=settings.eye_weight)
        self._importance = self._importance.to(device)
        tokens = (height // 2) * (width // 2)
        self._mask = chunk_causal_mask(cache, 3 * cache.chunk, tokens, device=device)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with the weights of a student that may see fewer input channels, its speech encoder among them."""
        self.student.load_state_dict(widen_input(weights, self.student.network.in_dim))
        self.average = ExponentialAverage(self.student, decay=self.settings.ema_decay)

    def _causal_loss(self, batch: Batch, random: np.random.Generator, generator: torch.Generator) -> Tensor:
        s, chunk = self.settings, self._cache.chunk
        clip_chunks = batch.latents.shape[2] // chunk
        sequence = draw_sequence(random, clip_chunks=clip_chunks, chunk=chunk, early_share=s.early_share)
        shape = (len(batch.latents), len(sequence.chunks))
        sigma = draw_sigmas(random, shape, sampling=self._sampling, share=s.sampling_share, shift=s.shift)
        learn = torch.tensor(sequence.learnable()).repeat(shape[0], 1)
        clean = torch.from_numpy(random.random(shape[0]) < s.clean_context_share)
        sigma[clean, :-1] = 0.0
        learn = learn & (sigma > 0)
        return self._flow_loss(batch, sequence, sigma, learn, random, generator, mask=self._mask)

    def _bidirectional_loss(
        self, batch: Batch, random: np.random.Generator, generator: torch.Generator
    ) -> Tensor:
        sequence = Sequence((0, 1, 2), self._cache.chunk)
        count = len(batch.latents)
        drawn = draw_sigmas(random, (count, 1), sampling=(1.0,), share=0.0, shift=self.settings.shift)
        learn = torch.ones(count, 3, dtype=torch.bool)
        return self._flow_loss(batch, sequence, drawn.expand(-1, 3), learn, random, generator, mask=None)

    def _flow_loss(
        self,
        batch: Batch,
        sequence: Sequence,
        sigma_BN: Tensor,
        learn_BN: Tensor,
        random: np.random.Generator,
        generator: torch.Generator,
        *,
        mask: Tensor | None,
    ) -> Tensor:
        chosen = sequence.latents()
        x0 = batch.latents[:, :, chosen]
        noise = torch.randn(x0.shape, generator=generator).to(x0)
        sigma_BT = sigma_BN.to(x0).repeat_interleave(sequence.chunk, dim=1)
        noisy = batch.condition.clamp(add_noise(x0, noise, sigma_BT[:, None, :, None, None]))
        kept = torch.from_numpy(random.random(len(x0)) >= self.settings.audio_dropout)
        kept = kept.to(x0.device)
        with torch.autocast(x0.device.type, torch.bfloat16):
            speech = self.student.features(batch.mel)[:, chosen] * kept[:, None, None]
            output = self.student(
                torch.cat([noisy, batch.condition.channels(chosen)], dim=1),
                timestep_BT=TIMESTEP_SCALE * sigma_BT,
                speech_BTV=speech,
                attention_mask_LL=mask,
            )
        weight = learn_BN.to(x0).repeat_interleave(sequence.chunk, dim=1)
        if batch.condition.clamped:
            weight[:, 0] = 0.0
        weight = weight[:, None, :, None, None] * self._importance
        return weighted_mse(output.float(), velocity_target(x0, noise), weight)

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One update on one batch."""
        s = self.settings
        random = np.random.default_rng([s.seed, step])
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        whole = self._bank.latents.shape[2] // self._cache.chunk * self._cache.chunk
        batch = draw_batch(self._bank, random, clips=s.batch, latents=whole, warp=True)
        bidirectional = random.random() < s.bidirectional_share
        make_loss = self._bidirectional_loss if bidirectional else self._causal_loss
        loss = make_loss(batch.to(self._device), random, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update(self.student)
        return {"bidirectional" if bidirectional else "causal": loss.item()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Flow loss of held-out clips with fixed noise, by the averaged weights."""
        random, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
        whole = self._held_out.latents.shape[2] // self._cache.chunk * self._cache.chunk
        with self.average.applied_to(self.student):
            batches = [draw_batch(self._held_out, random, clips=8, latents=whole) for _ in range(4)]
            losses = [
                self._causal_loss(batch.to(self._device), random, generator).item() for batch in batches
            ]
        return {"causal": sum(losses) / len(losses)}

    def state_dict(self) -> dict[str, Any]:
        """Weights and their running average."""
        return {"student": self.student.state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])


def _keeps_adam(name: str) -> bool:
    """Embeddings, head and modulation do better with AdamW."""
    return any(part in name for part in ("patch_embedding", "head.head", "modulation", "text_embedding"))
