"""The shipped examples as core's own values."""

from __future__ import annotations

from pathlib import Path

import node_helpers
import numpy as np
import torch
from comfy_extras.nodes_audio import load
from PIL import Image


def read_image(path: Path) -> torch.Tensor:
    """A picture as IMAGE: (1, H, W, 3), float32 in [0, 1]."""
    with node_helpers.pillow(Image.open, str(path)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(pixels)[None]


def read_audio(path: Path) -> dict[str, object]:
    """A recording as AUDIO: waveform (1, C, S) float32 at the file's own rate."""
    waveform, sample_rate = load(str(path))
    return {"waveform": waveform.unsqueeze(0), "sample_rate": sample_rate}
