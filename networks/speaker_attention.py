"""Audio cross-attention of the MultiTalk family: each latent attends to its own audio tokens.

After MultiTalk (section 3.3) and InfiniteTalk: with several speakers, rotary positions bind picture regions to
voices (L-RoPE). A token's position comes from how much it attends to each speaker's region in the reference
latent; the audio tokens of each speaker sit in the middle of that speaker's stretch of positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .ops import Attention, rope_dtype
from .rope import Rope, apply_rope, axis_rates

STRETCH = 4.0
STARTS = (0.0, 20.0, 4.0, 16.0)
"""First position of each speaker's stretch: two as published; a third and fourth use stretches left free."""
BACKGROUND = 12.0


@dataclass(frozen=True, eq=False)
class SpeakerAudio:
    """What the audio cross-attention of one forward hears.

    tokens_BTME: audio tokens of every latent, speakers side by side on M. layers: per block, the module that holds
    ``norm_x`` and ``audio_cross_attn`` (the blocks themselves, or a host's patch of the same names).
    masks_PL: for two speakers and more, their regions on the token grid of one latent and the background's as the
    last row, 1 inside; None for one voice, which every token hears alike.
    """

    tokens_BTME: Tensor
    layers: Sequence[nn.Module]
    masks_PL: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for masks that do not belong to the tokens or are empty."""
        masks = self.masks_PL
        if masks is None:
            return
        speakers = masks.shape[0] - 1
        if not 2 <= speakers <= len(STARTS):
            raise ValueError(
                f"got {masks.shape[0]} masks; expected one for each of 2 to {len(STARTS)} speakers and one "
                "for the background."
            )
        if self.tokens_BTME.shape[2] % speakers:
            raise ValueError(
                f"{self.tokens_BTME.shape[2]} audio tokens per latent do not divide among {speakers} speakers."
            )
        empty = [i for i in range(masks.shape[0]) if not bool(masks[i].any())]
        if empty:
            raise ValueError(
                f"mask {empty[0]} is empty on the token grid; draw a larger region, "
                "and leave some background outside of all of them."
            )


def hear(
    audio: SpeakerAudio,
    layer: int,
    x_BLD: Tensor,
    *,
    q_BLD: Tensor,
    k_BLD: Tensor,
    heads: int,
    attention: Attention,
) -> Tensor:
    """What a block's tokens hear: (B, L, D) -> (B, L, D).

    q, k: rotated queries and keys of the block's self-attention over the same tokens; read with masks only.
    """
    module = audio.layers[layer]
    attn, tokens = module.audio_cross_attn, audio.tokens_BTME.to(x_BLD.dtype)
    latents = tokens.shape[1]
    q = attn.q_linear(module.norm_x(x_BLD))
    k, v = attn.kv_linear(tokens.flatten(0, 1)).chunk(2, dim=-1)
    if audio.masks_PL is not None:
        positions = speaker_positions(q_BLD, k_BLD, audio.masks_PL, heads=heads)
        q = apply_rope(q, _line_rope(positions, q, heads))
        k = apply_rope(k, _line_rope(token_positions(k.shape[1], audio.masks_PL), k, heads))
    heard = attention(q.unflatten(1, (latents, -1)).flatten(0, 1), k, v, heads)
    return attn.proj(heard.unflatten(0, (-1, latents)).flatten(1, 2))


def speaker_positions(q_BLD: Tensor, k_BLD: Tensor, masks_PL: Tensor, *, heads: int) -> Tensor:
    """Position of every token (B, L): in the stretch of the speaker it attends to most, or the background's."""
    maps_BPL = attention_maps(q_BLD, k_BLD[:, : masks_PL.shape[1]], masks_PL, heads=heads)
    low, high = maps_BPL.amin(-1, keepdim=True), maps_BPL.amax(-1, keepdim=True)
    starts = torch.tensor(STARTS[: masks_PL.shape[0] - 1], device=maps_BPL.device, dtype=maps_BPL.dtype)
    scaled = (maps_BPL - low) / (high - low + 1e-8) * STRETCH
    scaled[:, :-1] += starts[:, None]
    scaled[:, -1] = BACKGROUND
    return scaled.gather(1, maps_BPL.argmax(dim=1, keepdim=True))[:, 0]


def attention_maps(q_BLD: Tensor, k_BRD: Tensor, masks_PR: Tensor, *, heads: int) -> Tensor:
    """Mean attention of every token to each masked region of the reference latent, over all heads: (B, P, L)."""
    dtype = rope_dtype(q_BLD.dtype)
    weights_RP = (masks_PR / masks_PR.sum(-1, keepdim=True)).to(dtype).T
    q, k = q_BLD.unflatten(-1, (heads, -1)), k_BRD.unflatten(-1, (heads, -1))
    total = None
    for head in range(heads):  # one head at a time: L x R numbers for all at once are too many
        scores = q[:, :, head].to(dtype) @ k[:, :, head].to(dtype).mT * q.shape[-1] ** -0.5
        part = scores.softmax(-1) @ weights_RP
        total = part if total is None else total + part
    return (total / heads).mT


def token_positions(tokens: int, masks_PL: Tensor) -> Tensor:
    """Positions of one latent's audio tokens (M,): the middle of the stretch of the speaker they belong to."""
    speakers = masks_PL.shape[0] - 1
    middles = torch.tensor(STARTS[:speakers], device=masks_PL.device) + STRETCH / 2
    return middles.repeat_interleave(tokens // speakers)


def _line_rope(positions: Tensor, like: Tensor, heads: int) -> Rope:
    """Rotation by positions (L,) or (B, L) on one axis over a whole head."""
    dtype = rope_dtype(like.dtype)
    rates = axis_rates(like.shape[-1] // heads // 2).to(like.device, dtype)
    angles = positions.to(like.device, dtype)[..., None, None] * rates
    sin = torch.stack([-angles.sin(), angles.sin()], dim=-1).flatten(-2)
    return Rope(angles.cos().repeat_interleave(2, dim=-1), sin)
