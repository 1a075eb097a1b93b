"""SyncNet as a reward: how well the mouths of a batch of latents follow the batch's speech."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.causal_vae import CausalVAE, denormalise_latents
from ..networks.speech_encoder import MEL_PER_FRAME
from .crops import cut, mouth_boxes
from .data import Batch
from .precision import half_precision
from .sync_score import confidence_distance_offset, reach, shift_distances
from .syncnet import SyncNet

_MARGIN = 1  # latent cells around the mouths that are decoded with them


class SyncReward:
    """Sync-C per clip: decodes the mouths with the frozen codec, embeds, searches the offset. No gradient."""

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
        clips, frames = len(latents_BCTHW), FRAMES_PER_LATENT * latents_BCTHW.shape[2] - 3
        if batch.mel.shape[1] < MEL_PER_FRAME * frames:
            raise ValueError(
                f"{frames} frames of latents have {batch.mel.shape[1]} mel frames of speech; "
                f"expected {MEL_PER_FRAME * frames}: cut both to the same clip"
            )
        first = max(0, FRAMES_PER_LATENT * first_latent - 3)
        steps = reach(frames - first)
        place = None if batch.place is None else batch.place[:, first:frames].flatten(0, 1)
        boxes = mouth_boxes(clips * (frames - first), place).to(latents_BCTHW.device)
        pixels, boxes = decode_mouths(self._vae, latents_BCTHW, boxes)
        crops = cut(pixels[:, :, first:].transpose(1, 2).flatten(0, 1), boxes).unflatten(0, (clips, -1))
        speech = self._syncnet.embed_speech(batch.mel[:, MEL_PER_FRAME * first : MEL_PER_FRAME * frames])
        distances = shift_distances(self._syncnet.embed_crops(crops), speech, reach=steps)
        return confidence_distance_offset(distances)[0]


def decode_mouths(vae: CausalVAE, latents_BCTHW: Tensor, boxes_N4: Tensor) -> tuple[Tensor, Tensor]:
    """Decode only the cells that boxes need -> pixels (B, 3, F, h, w) float32, and the boxes as shares of those.

    The codec was trained on crops: mouths decoded alone score the same within 0.02 of Sync-C, in a third of the time.
    """
    height, width = latents_BCTHW.shape[-2:]
    near, far = boxes_N4[:, :2] - boxes_N4[:, 2:], boxes_N4[:, :2] + boxes_N4[:, 2:]
    left, top = (near.amin(0) * near.new_tensor([width, height])).tolist()
    right, bottom = (far.amax(0) * far.new_tensor([width, height])).tolist()
    columns = slice(max(0, math.floor(left) - _MARGIN), min(width, math.ceil(right) + _MARGIN))
    rows = slice(max(0, math.floor(top) - _MARGIN), min(height, math.ceil(bottom) + _MARGIN))
    with half_precision(latents_BCTHW.device):
        pixels = vae.decode(denormalise_latents(latents_BCTHW[..., rows, columns])).float()
    scale = boxes_N4.new_tensor([width / (columns.stop - columns.start), height / (rows.stop - rows.start)])
    corner = boxes_N4.new_tensor([columns.start / width, rows.start / height])
    moved = torch.cat([(boxes_N4[:, :2] - corner) * scale, boxes_N4[:, 2:] * scale], dim=1)
    return pixels, moved
