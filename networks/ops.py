"""What the networks use when no host brings its own: attention and the casting of bare parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Attention = Callable[..., Tensor]
Cast = Callable[[Tensor, Tensor], Tensor]


def sdpa_attention(
    q_BLD: Tensor, k_BMD: Tensor, v_BMD: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention over token-major tensors: (B, L, D), (B, M, D), (B, M, D) -> (B, L, D).

    mask: optional (L, M), True where a query may see a key.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q_BLD, k_BMD, v_BMD))
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


def default_cast(parameter: Tensor, like: Tensor) -> Tensor:
    """A bare parameter in the dtype and on the device of an activation."""
    return parameter.to(device=like.device, dtype=like.dtype)


def rope_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype rotations are applied in: float64 for float64 activations, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
