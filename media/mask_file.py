"""LatentSync's mouth mask, read from the user's disk."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LATENTSYNC_MD5 = "3950d9f1237300ac5f7267798789a007"


def load_mask(path: str | Path) -> Tensor:
    """The mask that Lip Forcing was trained with: float32 (H, W) in [0, 1], 1 where the face stays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another file; its MD5 is compared.
    """
    content = Path(path).read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != LATENTSYNC_MD5:
        raise ValueError(
            f"{path} is not the mask that Lip Forcing was trained with (MD5 {found}, expected {LATENTSYNC_MD5}); take "
            "latentsync/utils/mask.png of LatentSync, not mask2 to mask4, or leave it out to use the drawn mask"
        )
    with Image.open(io.BytesIO(content)) as picture:
        grey = np.array(picture.convert("L"), dtype=np.float32)
    return torch.from_numpy(grey / 255)
