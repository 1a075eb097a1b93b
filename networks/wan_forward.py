"""The forward of the Wan module tree, for whole clips and for streams.

It reads nothing but the attribute names of the tree, which are the names in a checkpoint, so it runs on
``wan.WanModel`` and on any host's module tree of the same names, whatever its linear layers are made of.
After Wan 2.1 with LiveTalk's audio path (sections 2.2 and 3.2): timesteps per latent frame, audio tokens
added to the stream, everything in the activations' dtype. With SpeakerAudio, InfiniteTalk's audio path instead:
a cross-attention behind the text's in every block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention import TextContext, cross_attention, prepare_text, self_attention
from .audio_pack import injected_layers
from .kv_cache import KVCache
from .layers import add_gated, add_per_latent, modulate, sinusoid, unpatchify
from .ops import Attention, Cast, default_cast, rope_dtype, sdpa_attention
from .rope import Rope, Rotary
from .speaker_attention import SpeakerAudio, hear


@dataclass(frozen=True)
class _Pass:
    """What all blocks of one forward share."""

    modulation_BT6D: Tensor
    text: TextContext
    rope: Rope
    heads: int
    cache: KVCache | None
    attention: Attention
    cast: Cast
    masks_LL: tuple[Tensor | None, ...]
    speakers: SpeakerAudio | None


def wan_forward(
    model: nn.Module,
    x_BCTHW: Tensor,
    *,
    timestep_BT: Tensor,
    text_BMD: Tensor | TextContext,
    audio_tokens_BTE: Tensor | None = None,
    audio_projections: Sequence[nn.Module] | None = None,
    speakers: SpeakerAudio | None = None,
    cache: KVCache | None = None,
    positions: Sequence[int] | None = None,
    attention: Attention = sdpa_attention,
    cast: Cast = default_cast,
    attention_mask_LL: Tensor | Sequence[Tensor] | None = None,
) -> Tensor:
    """Predict the velocity of a clip or of a chunk.

    x: (B, in_dim, T, H, W), all input channels; timestep: (B, T) in 0..1000, or (B, 1) for all latents alike;
    text: rows (B, M, text_dim) or a TextContext; audio tokens: (B, T, E). speakers: the audio of a MultiTalk
    network. Returns (B, out_dim, T, H, W).

    cache: None attends within the clip, at temporal positions 0, 1, 2, ... or those given, with an optional mask
    (True = seen) or one for each layer of a pattern that repeats; otherwise the cache says which past the chunk
    sees and which positions it has.
    Raises ValueError where sizes do not fit.
    """
    _check(model, x_BCTHW, timestep_BT, audio_tokens_BTE, audio_projections)
    if speakers is not None:
        _check_speakers(speakers, x_BCTHW, model, cache)
    x, grid = _embed(model, x_BCTHW)
    time_BTD = model.time_embedding(sinusoid(timestep_BT, model.freq_dim).to(x))
    shared = _Pass(
        modulation_BT6D=model.time_projection(time_BTD).unflatten(-1, (6, -1)),
        text=text_BMD if isinstance(text_BMD, TextContext) else prepare_text(model, text_BMD),
        rope=cache.rope if cache is not None else _clip_rope(model, x, grid, positions),
        heads=model.num_heads,
        cache=cache,
        attention=attention,
        cast=cast,
        masks_LL=_mask_pattern(attention_mask_LL),
        speakers=speakers,
    )
    heard = injected_layers(len(model.blocks)) if audio_tokens_BTE is not None else ()
    for i, block in enumerate(model.blocks):
        if i in heard:
            x = add_per_latent(x, audio_projections[i - heard[0]](audio_tokens_BTE))
        x = _block(block, x, i, shared)
    return _head(model, x, time_BTD, grid, cast)


def _block(block: nn.Module, x: Tensor, layer: int, shared: _Pass) -> Tensor:
    """One transformer block: (B, L, D) -> (B, L, D)."""
    modulation = shared.cast(block.modulation, x)[:, None] + shared.modulation_BT6D
    shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation.unbind(2)
    attended, q, k = self_attention(
        block.self_attn,
        modulate(block.norm1(x), shift_a, 1 + scale_a),
        layer=layer,
        heads=shared.heads,
        rope=shared.rope,
        cache=shared.cache,
        attention=shared.attention,
        mask_LL=shared.masks_LL[layer % len(shared.masks_LL)],
    )
    x = add_gated(x, attended, gate_a)
    text = shared.text
    if text.constants_B1D:
        x = x + text.constants_B1D[layer]
    else:
        x = x + cross_attention(
            block.cross_attn,
            block.norm3(x),
            text=text,
            layer=layer,
            heads=shared.heads,
            attention=shared.attention,
        )
    if shared.speakers is not None:
        x = x + hear(
            shared.speakers, layer, x, q_BLD=q, k_BLD=k, heads=shared.heads, attention=shared.attention
        )
    return add_gated(x, block.ffn(modulate(block.norm2(x), shift_f, 1 + scale_f)), gate_f)


def _embed(model: nn.Module, x_BCTHW: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """(B, C, T, H, W) -> tokens (B, L, D) and their grid; a float32 embedding works in float32."""
    stored = model.patch_embedding.weight.dtype
    working = stored if stored in (torch.float32, torch.float64) else x_BCTHW.dtype
    patches = model.patch_embedding(x_BCTHW.to(working)).to(x_BCTHW.dtype)
    return patches.flatten(2).transpose(1, 2).contiguous(), tuple(patches.shape[2:])


def _clip_rope(
    model: nn.Module, x: Tensor, grid: tuple[int, int, int], positions: Sequence[int] | None
) -> Rope:
    if positions is None:
        positions = range(grid[0])
    elif len(positions) != grid[0]:
        raise ValueError(f"got {len(positions)} positions for {grid[0]} latents; give one for each.")
    rotary = Rotary(grid[1:], model.dim // model.num_heads, dtype=rope_dtype(x.dtype), device=x.device)
    return rotary(positions)


def _mask_pattern(masks: Tensor | Sequence[Tensor] | None) -> tuple[Tensor | None, ...]:
    """Masks of the layers of a pattern, at least one."""
    if masks is None or isinstance(masks, Tensor):
        return (masks,)
    if not masks:
        raise ValueError("got no attention mask; give one for each layer of the pattern, or None.")
    return tuple(masks)


def _head(model: nn.Module, x: Tensor, time_BTD: Tensor, grid: tuple[int, int, int], cast: Cast) -> Tensor:
    """Tokens to velocity: (B, L, D) -> (B, out_dim, T, H, W)."""
    head = model.head
    shift, scale = (cast(head.modulation, x)[:, None] + time_BTD[:, :, None]).unbind(2)
    patches = head.head(modulate(head.norm(x), shift, 1 + scale))
    return unpatchify(patches, grid, tuple(model.patch_size))


def _check(
    model: nn.Module,
    x_BCTHW: Tensor,
    timestep_BT: Tensor,
    audio_tokens_BTE: Tensor | None,
    audio_projections: Sequence[nn.Module] | None,
) -> None:
    batch, channels, latents, height, width = x_BCTHW.shape
    wanted = model.in_dim
    if channels != wanted:
        raise ValueError(f"the network takes {wanted} input channels and got {channels}.")
    if height % model.patch_size[1] or width % model.patch_size[2]:
        raise ValueError(
            f"latent size {height}x{width} must be a multiple of the patch {tuple(model.patch_size)[1:]}."
        )
    if tuple(timestep_BT.shape) not in ((batch, latents), (batch, 1)):
        raise ValueError(
            f"timesteps have shape {tuple(timestep_BT.shape)}; expected {(batch, latents)} or {(batch, 1)}."
        )
    if audio_tokens_BTE is None:
        return
    needed = len(injected_layers(len(model.blocks)))
    if audio_projections is None or len(audio_projections) != needed:
        got = None if audio_projections is None else len(audio_projections)
        raise ValueError(f"{len(model.blocks)} layers need {needed} audio projections; got {got}.")
    if tuple(audio_tokens_BTE.shape[:2]) != (batch, latents):
        raise ValueError(
            f"audio tokens cover {tuple(audio_tokens_BTE.shape[:2])}; expected {(batch, latents)}."
        )


def _check_speakers(speakers: SpeakerAudio, x_BCTHW: Tensor, model: nn.Module, cache: KVCache | None) -> None:
    batch, _, latents, height, width = x_BCTHW.shape
    if tuple(speakers.tokens_BTME.shape[:2]) != (batch, latents):
        raise ValueError(
            f"audio tokens cover {tuple(speakers.tokens_BTME.shape[:2])}; expected {(batch, latents)}."
        )
    if len(speakers.layers) != len(model.blocks):
        raise ValueError(
            f"the audio part has {len(speakers.layers)} layers and the network {len(model.blocks)}; "
            "load files that belong together."
        )
    if speakers.masks_PL is None:
        return
    if cache is not None:
        raise ValueError("a student with a KV cache hears one voice; leave the speakers' masks out.")
    tokens = height // model.patch_size[1] * (width // model.patch_size[2])
    if speakers.masks_PL.shape[1] != tokens:
        raise ValueError(
            f"the masks have {speakers.masks_PL.shape[1]} tokens; a latent of {height}x{width} has {tokens}."
        )
