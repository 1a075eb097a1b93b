"""Audio tokens per latent, from wherever a student takes them; here also students with an encoder of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..audio.mel import MelFrontEnd, MelSettings, MelState
from ..audio.rates import frames_in_latents
from ..audio.resample import ResampledReader
from ..audio.sources import SampleSource
from ..networks.audio_pack import pack_vectors
from ..networks.profile import SpeechProfile
from ..networks.speech_encoder import MEL_PER_FRAME, SpeechEncoder, SpeechState


class SpeechTokens(Protocol):
    """The voice of a stream."""

    def tokens(self, first_latent: int, latents: int) -> Tensor:
        """Audio tokens of latents [first_latent, first_latent + latents): (1, latents, E)."""
        ...


class MelSpeech:
    """Mel frames into the student's own convolutional encoder, in step with the chunks.

    Chunks are asked for in order; nothing is kept but the few frames that the next one still needs.
    """

    def __init__(
        self, source: SampleSource, encoder: SpeechEncoder, audio_proj: nn.Module, *, profile: SpeechProfile
    ) -> None:
        """Raises ValueError for a profile without mel settings."""
        if profile.mel is None:
            raise ValueError(f"the student's speech encoder is {profile.encoder!r}; expected 'mel'")
        self._source, self._encoder, self._audio_proj = source, encoder, audio_proj
        self._front = MelFrontEnd(MelSettings(**asdict(profile.mel)))
        self._reader = ResampledReader(source, rate=profile.mel.sample_rate)
        self._hop, self._copies = profile.mel.hop_samples, profile.prefix_copies
        self.reset()

    def reset(self) -> None:
        """Start again from the first sample."""
        self._mel, self._state = self._front.init_state(), self._encoder.init_state()
        self._heard, self._latent = 0, 0

    def needed_samples(self, first_latent: int, latents: int) -> tuple[int, int]:
        """Native samples [start, stop) to have before tokens() of these latents; earlier ones can be forgotten."""
        start, stop = self._reader.native_range(
            self._heard, max(self._heard, self._end_of(first_latent + latents))
        )
        return max(0, start), stop

    @torch.no_grad()
    def tokens(self, first_latent: int, latents: int) -> Tensor:
        """Audio tokens of the next latents: (1, latents, E). Raises ValueError out of order."""
        if first_latent != self._latent:
            raise ValueError(f"latent {first_latent} was asked for; the next one is {self._latent}")
        end = self._end_of(first_latent + latents)
        samples = self._reader.read(self._heard, end)
        self._heard, self._latent = end, first_latent + latents
        weight = self._encoder.conv1.weight
        mel = torch.from_numpy(self._front.push(samples, self._mel))[None].to(weight.device, weight.dtype)
        vectors = self._encoder.push(mel, self._state)
        packed = pack_vectors(vectors, prefix_copies=self._copies if first_latent == 0 else 0)
        return self._audio_proj(packed)

    def _end_of(self, latents: int) -> int:
        """Samples heard when the features of the first `latents` latents are complete."""
        mel_frames = frames_in_latents(latents) * MEL_PER_FRAME + self._encoder.config.ahead_mel
        return mel_frames * self._hop

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {
            "samples": torch.from_numpy(self._mel.samples.copy()),
            "level": torch.from_numpy(self._mel.level.copy()),
            "mel": self._state.mel.to("cpu", copy=True),
            "heard": self._heard,
            "latent": self._latent,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where state_dict() was taken."""
        self._mel = MelState(state["samples"].numpy().copy(), state["level"].numpy().copy())
        self._state = SpeechState(state["mel"].to(self._encoder.conv1.weight, copy=True))
        self._heard, self._latent = int(state["heard"]), int(state["latent"])
