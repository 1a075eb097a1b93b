"""In which number format networks run while they train."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def half_precision(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where autocast allows it, weights as they are stored.

    Nothing on the meta device, which knows sizes only and has no autocast.
    """
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, torch.bfloat16)
