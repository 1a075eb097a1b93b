"""Causal initialisation by flow matching with a noise level per chunk (diffusion forcing).

A sequence is what a stream's window holds: sink, history, current chunk. A student with a clean cache sees its past at
levels of its own, often clean; one with a cache per step sees all of a sequence at one level, as its steps do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks.cache_spec import CacheSpec
from ..networks.speech_encoder import SpeechEncoderConfig
from ..networks.wan import WanConfig
from .data import Batch, LatentBank, draw_batch
from .flow import FlowSettings, FlowStage, flow_loss
from .latent_reader import train_latent_reader
from .parallel import Draws
from .reward import mean_reading_error
from .sequences import Sequence, draw_sequence, draw_sigmas


@dataclass(frozen=True)
class FinetuneSettings(FlowSettings):
    """Numbers of the diffusion forcing stage.

    sampling_share: of levels that are exactly the sampler's. clean_context_share: of sequences whose past is clean, for
    a clean cache. early_share: of sequences that begin the clip. reading_share: of the error of the mouths that a
    reader finds in what is predicted, 0 leaves it out; the reader learns reader_steps steps first.
    """

    sampling_share: float = 0.5
    clean_context_share: float = 0.6
    audio_dropout: float = 0.08
    early_share: float = 0.35
    reading_share: float = 0.0
    reader_steps: int = 800


class FinetuneStage(FlowStage):
    """Trains the causal network on encoded clips, behind a speech encoder that is given."""

    settings: FinetuneSettings
    loss_name = "causal"

    def __init__(
        self,
        settings: FinetuneSettings,
        bank: LatentBank,
        held_out: LatentBank,
        *,
        network: WanConfig,
        speech: SpeechEncoderConfig | None,
        cache: CacheSpec,
        sigmas: tuple[float, ...],
        device: torch.device = torch.device("cpu"),  # noqa: B008
        sharded: bool = False,
    ) -> None:
        """sigmas: the sampler's schedule, ending in 0. cache: the window that sequences imitate."""
        if cache.sink_source != "first_latents" and bank.source is not None:
            raise ValueError(
                f"the sink comes from {cache.sink_source} and the clips are dubbed videos, which have no "
                "portrait; use a sink of first_latents."
            )
        size = bank.latents.shape[-2:]
        super().__init__(
            settings,
            bank,
            held_out,
            network=network,
            speech=speech,
            size=size,
            device=device,
            sharded=sharded,
        )
        self._cache, self._sampling = cache, sigmas[:-1]
        self._tokens = (size[0] // 2) * (size[1] // 2)
        self._masks: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        self._reader = None
        if settings.reading_share:
            self._reader = train_latent_reader(
                bank.latents, bank.mouth, steps=settings.reader_steps, device=device
            )

    def _draw(self, bank: LatentBank, random: np.random.Generator, *, clips: int, warp: bool) -> Batch:
        whole = bank.latents.shape[2] // self._cache.chunk * self._cache.chunk
        return draw_batch(bank, random, clips=clips, latents=whole, warp=warp)

    def _loss(self, batch: Batch, drawn: Draws) -> Tensor:
        s, chunk = self.settings, self._cache.chunk
        sequence = draw_sequence(
            drawn.shared,
            spec=self._cache,
            clip_chunks=batch.latents.shape[2] // chunk,
            early_share=s.early_share,
        )
        sigma, learn = self._levels(len(batch.latents), sequence, drawn.own)
        places = sequence.places()
        noise = self._noise(batch.latents[:, :, places], drawn.noise)
        kept = torch.from_numpy(drawn.own.random(len(noise)) >= s.audio_dropout)
        loss, x0 = flow_loss(
            self.student, batch, noise, places=places, level_BT=sequence.by_latent(sigma).to(noise),
            weight_BT=sequence.by_latent(learn.float()), importance=self._importance_at(batch, places), hears=kept,
            positions=sequence.positions(), attention_mask_LL=self._masks_of(sequence),
        )  # fmt: skip
        if self._reader is None:
            return loss
        counts_BT = sequence.by_latent((learn & kept[:, None]).float()).to(x0)
        return loss + s.reading_share * mean_reading_error(self._reader, x0, batch, places, counts_BT)

    def _levels(self, clips: int, sequence: Sequence, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Noise levels (B, chunks) and which chunks to learn from."""
        s, chunks = self.settings, len(sequence.chunks)
        levels = 1 if self._cache.mode == "per_step" else chunks
        sigma = draw_sigmas(
            random, (clips, levels), sampling=self._sampling, share=s.sampling_share, shift=s.shift
        ).repeat(1, chunks // levels)
        learn = torch.tensor(sequence.learnable()).repeat(clips, 1)
        if self._cache.mode == "clean":
            clean = torch.from_numpy(random.random(clips) < s.clean_context_share)
            sigma[clean, :-1] = 0.0
        return sigma, learn & (sigma > 0)

    def _masks_of(self, sequence: Sequence) -> tuple[Tensor, ...]:
        key = (len(sequence.chunks), sequence.sink)
        if key not in self._masks:
            self._masks[key] = sequence.masks(self._tokens, device=self._device)
        return self._masks[key]
