"""Self-attention with an optional cache, cross-attention with text keys made once per stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .kv_cache import KVCache
from .ops import Attention
from .rope import Rope, apply_rope


@dataclass(frozen=True)
class TextContext:
    """Text as the layers see it, made by ``prepare_text`` once and used for the whole stream.

    keys_BMD, values_BMD: one pair per layer. Where the text is a single row (the null text of a student
    that needs none) a softmax over one key is exactly 1, so the layers' outputs are kept instead, in
    constants_B1D.
    """

    keys_BMD: tuple[Tensor, ...] = ()
    values_BMD: tuple[Tensor, ...] = ()
    constants_B1D: tuple[Tensor, ...] = ()


def prepare_text(model: nn.Module, text_BMD: Tensor) -> TextContext:
    """Run the text MLP and every layer's key and value projection: (B, M, text_dim) -> TextContext."""
    text = model.text_embedding(text_BMD)
    layers = [block.cross_attn for block in model.blocks]
    values = tuple(attn.v(text) for attn in layers)
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
) -> Tensor:
    """Attention among the tokens and whatever the cache shows this layer: (B, L, D) -> (B, L, D)."""
    q = apply_rope(module.norm_q(module.q(x_BLD)), rope)
    k, v = module.norm_k(module.k(x_BLD)), module.v(x_BLD)
    if cache is None:
        k = apply_rope(k, rope)
    else:
        k, v = cache.extend(layer, k, v)
        if k.dtype != q.dtype:
            k, v = k.to(q.dtype), v.to(q.dtype)
    out = attention(q, k, v, heads) if mask_LL is None else attention(q, k, v, heads, mask_LL)
    return module.o(out)


def cross_attention(
    module: nn.Module, x_BLD: Tensor, *, text: TextContext, layer: int, heads: int, attention: Attention
) -> Tensor:
    """Attention to the text rows, all of them, without a mask: (B, L, D) -> (B, L, D)."""
    q = module.norm_q(module.q(x_BLD))
    return module.o(attention(q, text.keys_BMD[layer], text.values_BMD[layer], heads))
