"""The sizes of released students, and data of their sizes to rehearse a recipe on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.profile import LIPFORCING, LIVETALK, WAV2VEC2_BASE, StudentProfile
from ..networks.wan import WanConfig
from ..samplers.schedule import Schedule
from .data import LatentBank

_PIXELS_PER_LATENT = 8
_AUDIO_IN = FRAMES_PER_LATENT * WAV2VEC2_BASE.features


@dataclass(frozen=True)
class Shape:
    """A student that is given wav2vec2's vectors. latents: of a training clip (21 are 81 frames)."""

    network: WanConfig
    profile: StudentProfile
    latents: int = 21

    @property
    def schedule(self) -> Schedule:
        """Its few steps."""
        return Schedule.from_sigmas(self.profile.sigmas, rounding=self.profile.timestep_rounding)

    def random_bank(self, clips: int) -> LatentBank:
        """Clips of random numbers in the sizes of the student's data."""
        random = np.random.default_rng(0)
        size = (self.profile.height // _PIXELS_PER_LATENT, self.profile.width // _PIXELS_PER_LATENT)
        frames = FRAMES_PER_LATENT * self.latents - 3
        latents, source, masked = (
            random.standard_normal((clips, 16, self.latents, *size), np.float32).astype(np.float16)
            for _ in range(3)
        )
        features = self.network.audio_in // FRAMES_PER_LATENT
        vectors = random.standard_normal((clips, 1, frames, features), np.float32).astype(np.float16)
        mouth = random.random((clips, frames, 5), np.float32)
        dubs = not self.profile.clamp_first_latent
        return LatentBank(latents, vectors, mouth, *((source, masked) if dubs else (None, None)))


SHAPES = {
    "livetalk_1.3b": Shape(
        WanConfig(
            dim=1536, in_dim=33, ffn_dim=8960, num_heads=12, num_layers=30, text_dim=4096, audio_in=_AUDIO_IN
        ),
        LIVETALK,
    ),
    "lipforcing_14b": Shape(
        WanConfig(
            dim=5120, in_dim=65, ffn_dim=13824, num_heads=40, num_layers=40, text_dim=4096, audio_in=_AUDIO_IN
        ),
        LIPFORCING,
    ),
}
