"""A still picture fitted to the size of a video."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Fit = Literal["cover", "contain", "stretch"]


def fit_picture(image_BHWC: Tensor, *, width: int, height: int, fit: Fit = "cover") -> Tensor:
    """(1, H, W, 3) in [0, 1] -> (1, height, width, 3): cropped, between black bars, or stretched.

    Bilinear with antialiasing as in LiveTalk (section 1), whose truncation of the resized side is not copied:
    it leaves a black line at some heights. Raises ValueError for another `fit`.
    """
    image_BCHW = image_BHWC.movedim(-1, 1).float()
    rows, columns = height / image_BCHW.shape[2], width / image_BCHW.shape[3]
    if fit == "stretch":
        size = (height, width)
    elif fit in ("cover", "contain"):
        ratio = max(rows, columns) if fit == "cover" else min(rows, columns)
        size = (max(1, round(image_BCHW.shape[2] * ratio)), max(1, round(image_BCHW.shape[3] * ratio)))
    else:
        raise ValueError(f"got fit {fit!r}, expected 'cover', 'contain' or 'stretch'")
    resized = F.interpolate(image_BCHW, size=size, mode="bilinear", antialias=True, align_corners=False)
    return placed(resized, width=width, height=height).movedim(1, -1).clamp(0.0, 1.0)


def placed(picture_BCHW: Tensor, *, width: int, height: int) -> Tensor:
    """The middle of a picture that is too large, black bars around one that is too small."""
    surplus_rows, surplus_columns = picture_BCHW.shape[2] - height, picture_BCHW.shape[3] - width
    top, left = surplus_rows // 2, surplus_columns // 2
    return F.pad(picture_BCHW, (-left, left - surplus_columns, -top, top - surplus_rows)).contiguous()
