"""The teacher: bidirectional flow matching, one noise level for a whole window, speech and caption at times left out.

On whole clips it is the general teacher. On windows as short as a rollout's, from anywhere in a clip, it is made ready
to judge them (EchoTorrent, section 3.2: supervised fine-tuning on short chunks).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks.speech_encoder import SpeechEncoderConfig
from ..networks.wan import WanConfig
from .captions import Captions
from .data import Batch, LatentBank, draw_batch
from .flow import FlowSettings, FlowStage, flow_loss
from .parallel import Draws
from .prediction import place_given
from .sequences import draw_sigmas


@dataclass(frozen=True)
class TeacherSettings(FlowSettings):
    """Numbers of the teacher stage.

    window: latents of a training window, 0 for whole clips. middle_share: of windows that begin after latent 0, all
    places alike. text_dropout, audio_dropout: of clips whose caption or speech is left out, each on its own, so that
    guidance has its null.
    """

    window: int = 0
    middle_share: float = 0.0
    text_dropout: float = 0.1
    audio_dropout: float = 0.1


def draw_window(random: np.random.Generator, *, clip: int, window: int, middle_share: float) -> range:
    """Places of a window in a clip of so many latents; window 0 takes the whole clip.

    Raises ValueError where a window is longer than the clip.
    """
    window = window or clip
    if not 1 <= window <= clip:
        raise ValueError(f"window is {window} latents and the clips have {clip}; give 0 to {clip}")
    later = clip - window
    first = 1 + int(random.integers(later)) if later and random.random() < middle_share else 0
    return range(first, first + window)


class TeacherStage(FlowStage):
    """Trains a network that sees a window as a whole, behind a speech encoder that is given."""

    settings: TeacherSettings
    loss_name = "bidirectional"

    def __init__(
        self,
        settings: TeacherSettings,
        bank: LatentBank,
        held_out: LatentBank,
        *,
        network: WanConfig,
        speech: SpeechEncoderConfig | None,
        device: torch.device = torch.device("cpu"),  # noqa: B008
        sharded: bool = False,
    ) -> None:
        size = bank.latents.shape[-2:]
        super().__init__(
            settings,
            bank,
            held_out,
            network=network,
            speech=speech,
            size=size,
            reads_text=True,
            device=device,
            sharded=sharded,
        )
        self._captions = Captions(network.text_dim)

    def _draw(self, bank: LatentBank, random: np.random.Generator, *, clips: int, warp: bool) -> Batch:
        return draw_batch(bank, random, clips=clips, latents=bank.latents.shape[2], warp=warp)

    def _loss(self, batch: Batch, drawn: Draws) -> Tensor:
        s, clips, random = self.settings, len(batch.latents), drawn.own
        places = draw_window(
            drawn.shared, clip=batch.latents.shape[2], window=s.window, middle_share=s.middle_share
        )
        sigma = draw_sigmas(random, (clips, 1), sampling=(1.0,), share=0.0, shift=s.shift)
        noise = self._noise(batch.latents[:, :, list(places)], drawn.noise)
        _, given_T = place_given(noise, batch.condition, places)
        hears, reads = (
            torch.from_numpy(random.random(clips) >= dropped) for dropped in (s.audio_dropout, s.text_dropout)
        )
        text = self._captions.of(batch.domain, clips) * reads[:, None, None]
        loss, _ = flow_loss(
            self.student, batch, noise, places=places, level_BT=sigma.to(noise) * ~given_T,
            weight_BT=torch.ones(clips, len(places)), importance=self._importance_at(batch, places), hears=hears,
            text_BMD=text.to(noise),
        )  # fmt: skip
        return loss
