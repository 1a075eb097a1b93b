"""Self-attention with an optional cache, cross-attention with text keys made once per stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from .kv_cache import KVCache
from .ops import Attention
from .rope import Rope, apply_rope


@dataclass(frozen=True)
class TextContext:
    """Text as the layers see it, made by ``prepare_text`` once and used for the whole stream.

    keys_BMD, values_BMD: one pair per layer. Where the text is a single row (the null text of a student
    that needs none) a softmax over one key is exactly 1, so the layers' outputs are kept instead, in
    constants_B1D. image_keys_BMD, image_values_BMD: of the portrait's CLIP vision tokens, where the network reads
    them; they have a softmax of their own, its result is added to the text's.
    """

    keys_BMD: tuple[Tensor, ...] = ()
    values_BMD: tuple[Tensor, ...] = ()
    constants_B1D: tuple[Tensor, ...] = ()
    image_keys_BMD: tuple[Tensor, ...] = ()
    image_values_BMD: tuple[Tensor, ...] = ()


def pad_text(text_BMD: Tensor, rows: int) -> Tensor:
    """Zero rows behind the text, up to `rows`: (B, M, C) -> (B, rows, C). They are attended like any other.

    Raises ValueError for a longer text.
    """
    if text_BMD.shape[1] > rows:
        raise ValueError(f"the text has {text_BMD.shape[1]} rows; this network takes at most {rows}.")
    return functional.pad(text_BMD, (0, 0, 0, rows - text_BMD.shape[1]))


def prepare_text(model: nn.Module, text_BMD: Tensor, *, image_BMC: Tensor | None = None) -> TextContext:
    """Run the text MLP and every layer's key and value projection: (B, M, text_dim) -> TextContext.

    image: CLIP vision tokens (B, 257, 1280), for a network with ``img_emb``. Raises ValueError where only one of
    the two is there.
    """
    wanted = getattr(model, "img_emb", None) is not None
    if wanted != (image_BMC is not None):
        raise ValueError(
            "this network reads CLIP vision tokens of the portrait and got none; connect CLIP_VISION_OUTPUT."
            if wanted
            else "this network reads no CLIP vision tokens; leave them out."
        )
    text = model.text_embedding(text_BMD)
    layers = [block.cross_attn for block in model.blocks]
    values = tuple(attn.v(text) for attn in layers)
    if image_BMC is not None:
        image = model.img_emb(image_BMC)
        return TextContext(
            keys_BMD=tuple(attn.norm_k(attn.k(text)) for attn in layers),
            values_BMD=values,
            image_keys_BMD=tuple(attn.norm_k_img(attn.k_img(image)) for attn in layers),
            image_values_BMD=tuple(attn.v_img(image) for attn in layers),
        )
    if text.shape[1] == 1:
        outputs = tuple(attn.o(value) for attn, value in zip(layers, values, strict=True))
        return TextContext(constants_B1D=outputs)
    keys = tuple(attn.norm_k(attn.k(text)) for attn in layers)
    return TextContext(keys_BMD=keys, values_BMD=values)


def self_attention(
    module: nn.Module,
    x_BLD: Tensor,
    *,
    layer: int,
    heads: int,
    rope: Rope,
    cache: KVCache | None,
    attention: Attention,
    mask_LL: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention among the tokens and whatever the cache shows this layer: (B, L, D) -> (B, L, D).

    Returns the result, the rotated queries and the rotated keys.
    """
    q = apply_rope(module.norm_q(module.q(x_BLD)), rope)
    k, v = module.norm_k(module.k(x_BLD)), module.v(x_BLD)
    if cache is None:
        k = apply_rope(k, rope)
    else:
        k, v = cache.extend(layer, k, v)
        if k.dtype != q.dtype:
            k, v = k.to(q.dtype), v.to(q.dtype)
    out = attention(q, k, v, heads) if mask_LL is None else attention(q, k, v, heads, mask_LL)
    return module.o(out), q, k


def cross_attention(
    module: nn.Module, x_BLD: Tensor, *, text: TextContext, layer: int, heads: int, attention: Attention
) -> Tensor:
    """Attention to the text rows, all of them, without a mask, and to the image's: (B, L, D) -> (B, L, D)."""
    q = module.norm_q(module.q(x_BLD))
    out = attention(q, text.keys_BMD[layer], text.values_BMD[layer], heads)
    if text.image_keys_BMD:
        out = out + attention(q, text.image_keys_BMD[layer], text.image_values_BMD[layer], heads)
    return module.o(out)
