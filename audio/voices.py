"""Several speakers on one time line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Mixing = Literal["para", "add"]


def arrange_voices(clips_CS: Sequence[Tensor], mixing: Mixing) -> list[Tensor]:
    """Clips (C, S) at one sample rate to voices of one length: at the same time, or one after the other.

    ``para``: all start together, silence follows the shorter ones. ``add``: each starts where the one before ends;
    the others are silent. Silence lies in the waveform, so that the encoder hears it. Raises ValueError for no clip
    and for another mixing.
    """
    if not clips_CS:
        raise ValueError("no voice: connect at least one AUDIO")
    lengths = [clip.shape[-1] for clip in clips_CS]
    if mixing == "para":
        starts, total = [0] * len(lengths), max(lengths)
    elif mixing == "add":
        starts, total = [sum(lengths[:i]) for i in range(len(lengths))], sum(lengths)
    else:
        raise ValueError(f"got mixing {mixing!r}, expected 'para' (at the same time) or 'add' (in turn)")
    return [
        functional.pad(clip, (start, total - start - clip.shape[-1]))
        for clip, start in zip(clips_CS, starts, strict=True)
    ]


def mixed(voices_CS: Sequence[Tensor]) -> Tensor:
    """All voices together, (C, S) with the channels of the widest; the others are heard on all of them as mono."""
    channels = max(voice.shape[0] for voice in voices_CS)
    alike = [
        voice if voice.shape[0] == channels else voice.mean(0, keepdim=True).expand(channels, -1)
        for voice in voices_CS
    ]
    return torch.stack(alike).sum(0)
