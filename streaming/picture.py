"""A picture of any size at the size of a stream."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

Fit = Literal["cover", "contain", "stretch"]
FITS: tuple[Fit, ...] = ("cover", "contain", "stretch")


def fit_picture(image_BHWC: Tensor, *, width: int, height: int, fit: Fit) -> Tensor:
    """(1, H, W, 3) in [0, 1] -> (1, height, width, 3): cropped, between black bars, or stretched.

    Bilinear with antialiasing as in LiveTalk (section 1), whose truncation of the resized side is not copied:
    it leaves a black line at some heights. Raises ValueError for an unknown fit.
    """
    if fit not in FITS:
        raise ValueError(f"got fit {fit!r}; expected one of {', '.join(FITS)}")
    image_BCHW = image_BHWC.movedim(-1, 1).float()
    ratios = height / image_BCHW.shape[2], width / image_BCHW.shape[3]
    if fit == "stretch":
        size = (height, width)
    else:
        ratio = max(ratios) if fit == "cover" else min(ratios)
        size = tuple(max(1, round(side * ratio)) for side in image_BCHW.shape[2:])
    resized = functional.interpolate(
        image_BCHW, size=size, mode="bilinear", antialias=True, align_corners=False
    )
    return _placed(resized, width=width, height=height).movedim(1, -1).clamp(0.0, 1.0)


def _placed(picture_BCHW: Tensor, *, width: int, height: int) -> Tensor:
    """The middle of a picture that is too large, black bars around one that is too small."""
    surplus = picture_BCHW.shape[2] - height, picture_BCHW.shape[3] - width
    top, left = (side // 2 for side in surplus)
    bottom, right = surplus[0] - top, surplus[1] - left
    return functional.pad(picture_BCHW, (-left, -right, -top, -bottom)).contiguous()
