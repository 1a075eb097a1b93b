"""SyncNet as a reward: how well the mouths of a batch of latents follow the batch's speech."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks.causal_vae import CausalVAE, denormalise_latents
from ..networks.speech_encoder import MEL_PER_FRAME
from .data import Batch
from .sync_score import confidence_distance_offset, reach, shift_distances
from .syncnet import SyncNet


class SyncReward:
    """Sync-C per clip: decodes with the frozen codec, cuts the mouths, embeds, searches the offset. No gradient."""

    def __init__(self, syncnet: SyncNet, vae: CausalVAE) -> None:
        """vae: its latent statistics are folded; both networks lie on the device of the latents to come."""
        self._syncnet, self._vae = syncnet, vae

    @torch.no_grad()
    def __call__(self, latents_BCTHW: Tensor, batch: Batch, *, first_latent: int = 0) -> Tensor:
        """Clean latents in student units, from the clip's start -> confidence (B,) float32.

        first_latent: only frames from this latent on are scored; what comes before is their past, for the decoder.
        The offset is searched over +-15 frames or, in clips below 35 frames, over half of their windows (at least
        +-3), so confidences compare only between clips of one length. Raises ValueError below 8 scored frames, and
        where the batch's speech is shorter than the latents.
        """
        with torch.autocast(latents_BCTHW.device.type, torch.bfloat16):
            pixels = self._vae.decode(denormalise_latents(latents_BCTHW))
        frames = pixels.shape[2]
        if batch.mel.shape[1] < MEL_PER_FRAME * frames:
            raise ValueError(
                f"{frames} frames of latents have {batch.mel.shape[1]} mel frames of speech; "
                f"expected {MEL_PER_FRAME * frames}: cut both to the same clip"
            )
        scored = slice(max(0, 4 * first_latent - 3), frames)
        heard = batch.mel[:, MEL_PER_FRAME * scored.start : MEL_PER_FRAME * frames]
        place = None if batch.place is None else batch.place[:, scored]
        lips = self._syncnet.embed_lips(pixels[:, :, scored].float(), place)
        distances = shift_distances(
            lips, self._syncnet.embed_speech(heard), reach=reach(frames - scored.start)
        )
        return confidence_distance_offset(distances)[0]
