"""Modules of the MultiTalk family beside the Wan tree, and speech windows to audio tokens.

After MultiTalk and InfiniteTalk (section 3): every latent gets its own audio tokens. The stream's first latent,
one video frame, has a projection of its own; each later latent hears its four frames and two more on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

Operations = ModuleType | Any
FRAMES_PER_LATENT = 4


@dataclass(frozen=True)
class MultiTalkConfig:
    """Sizes of the audio path: features per frame (slots x width), hidden width, tokens per latent, token width."""

    slots: int = 12
    slot_width: int = 768
    hidden: int = 512
    tokens: int = 32
    token_width: int = 768
    window: int = 5

    def __post_init__(self) -> None:
        """Raises ValueError for a window without a middle."""
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"the speech window is {self.window} frames; it must be odd.")

    @property
    def features(self) -> int:
        """Numbers per video frame."""
        return self.slots * self.slot_width

    @property
    def later_window(self) -> int:
        """Feature frames of a latent of four video frames: 8 with a window of 5."""
        return self.window + FRAMES_PER_LATENT - 1


class AudioProjection(nn.Module):
    """Weights of ``audio_proj``; the forward is ``project_speech``."""

    def __init__(self, config: MultiTalkConfig, operations: Operations, **where: Any) -> None:  # noqa: ANN401
        """where: device and dtype of the weights."""
        super().__init__()
        first, later = config.window * config.features, config.later_window * config.features
        self.proj1 = operations.Linear(first, config.hidden, **where)
        self.proj1_vf = operations.Linear(later, config.hidden, **where)
        self.proj2 = operations.Linear(config.hidden, config.hidden, **where)
        self.proj3 = operations.Linear(config.hidden, config.tokens * config.token_width, **where)
        self.norm = operations.LayerNorm(config.token_width, eps=1e-5, **where)


class AudioCrossAttention(nn.Module):
    """Weights of a block's ``audio_cross_attn``; the forward is ``speaker_attention.hear``."""

    def __init__(self, dim: int, token_width: int, operations: Operations, **where: Any) -> None:  # noqa: ANN401
        """where: device and dtype of the weights."""
        super().__init__()
        self.q_linear = operations.Linear(dim, dim, **where)
        self.kv_linear = operations.Linear(token_width, 2 * dim, **where)
        self.proj = operations.Linear(dim, dim, **where)


class AudioLayer(nn.Module):
    """What the audio part adds to one block."""

    def __init__(self, dim: int, token_width: int, operations: Operations, **where: Any) -> None:  # noqa: ANN401
        """where: device and dtype of the weights."""
        super().__init__()
        self.norm_x = operations.LayerNorm(dim, eps=1e-6, elementwise_affine=True, **where)
        self.audio_cross_attn = AudioCrossAttention(dim, token_width, operations, **where)


class AudioPart(nn.Module):
    """The audio part alone, named as in an InfiniteTalk file, for a Wan network that somebody else holds."""

    def __init__(
        self,
        config: MultiTalkConfig,
        *,
        dim: int,
        layers: int,
        operations: Operations = nn,
        **where: Any,  # noqa: ANN401
    ) -> None:
        """dim, layers: of the Wan network; where: device and dtype of the weights."""
        super().__init__()
        self.audio_proj = AudioProjection(config, operations, **where)
        self.blocks = nn.ModuleList(
            AudioLayer(dim, config.token_width, operations, **where) for _ in range(layers)
        )


class ImageProjection(nn.Module):
    """``img_emb``: CLIP vision tokens (B, 257, 1280) to the model's width."""

    def __init__(self, width: int, dim: int, operations: Operations, **where: Any) -> None:  # noqa: ANN401
        """where: device and dtype of the weights."""
        super().__init__()
        self.proj = nn.Sequential(
            operations.LayerNorm(width, **where),
            operations.Linear(width, width, **where),
            nn.GELU(),
            operations.Linear(width, dim, **where),
            operations.LayerNorm(dim, **where),
        )

    def forward(self, x_BMC: Tensor) -> Tensor:
        """(B, M, C) -> (B, M, D)."""
        return self.proj(x_BMC)


def project_speech(audio_proj: nn.Module, windows_PFWC: Tensor, *, first_alone: bool) -> Tensor:
    """Speech windows to audio tokens, on our ``audio_proj`` or on a host's of the same names.

    windows: (P, F, W, C), of each of P speakers the W feature frames around every video frame, C numbers each.
    first_alone: whether video frame 0 is a latent of its own (F = 4T - 3) or not (F = 4T).
    Returns (P, T, M, E). Raises ValueError where F does not fill whole latents.
    """
    alone = 1 if first_alone else 0
    speakers, frames, window, _ = windows_PFWC.shape
    if (frames - alone) % FRAMES_PER_LATENT or frames == 0:
        wanted = "4 n + 1" if first_alone else "4 n"
        raise ValueError(f"{frames} frames of speech do not fill whole latents; give {wanted} frames.")
    parts = [torch.relu(audio_proj.proj1(windows_PFWC[:, :1].flatten(2)))] if first_alone else []
    if frames > alone:
        later = windows_PFWC[:, alone:].unflatten(1, (-1, FRAMES_PER_LATENT))
        middle = window // 2
        heard = torch.cat(
            [later[:, :, 0, : middle + 1], later[:, :, 1:-1, middle], later[:, :, -1, middle:]], dim=2
        )
        parts.append(torch.relu(audio_proj.proj1_vf(heard.flatten(2))))
    hidden = torch.relu(audio_proj.proj2(torch.cat(parts, dim=1)))
    tokens = audio_proj.proj3(hidden)
    width = audio_proj.norm.normalized_shape[0]
    return audio_proj.norm(tokens.unflatten(-1, (-1, width)))


def side_by_side(tokens_PTME: Tensor) -> Tensor:
    """Tokens of P speakers as one context per latent: (P, T, M, E) -> (1, T, P * M, E), speaker 0 first."""
    return tokens_PTME.transpose(0, 1).flatten(1, 2)[None]
