"""Pictures and masks cut to the size of a video as InfiniteTalk and SoulX-FlashTalk cut them (section 1.1).

Enlarged or reduced until they cover it, sides rounded up, then their middle; half a pixel goes to the even side.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate


def cover_picture(image_BHWC: Tensor, *, height: int, width: int) -> Tensor:
    """(1, H, W, 3) in [0, 1] -> (1, height, width, 3) in steps of 1/255, resized as the reference does, by PIL."""
    pixels = (image_BHWC[0].clamp(0.0, 1.0) * 255).round().to(torch.uint8).cpu()
    rows, columns = covering_size(*pixels.shape[:2], height=height, width=width)
    grown = Image.fromarray(pixels.numpy()).resize((columns, rows), Image.Resampling.BILINEAR)
    grown_CHW = torch.from_numpy(np.array(grown)).movedim(-1, 0)
    return middle(grown_CHW, height=height, width=width).movedim(0, -1)[None].float() / 255


def cover_masks(masks_PHW: Tensor, *, height: int, width: int) -> Tensor:
    """(P, H, W) -> (P, height, width) by nearest neighbours."""
    size = covering_size(*masks_PHW.shape[1:], height=height, width=width)
    return middle(interpolate(masks_PHW[None], size=size, mode="nearest")[0], height=height, width=width)


def covering_size(rows: int, columns: int, *, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a picture in its own proportions that covers a size; in whole numbers, so never short."""
    if height * columns >= width * rows:
        return height, -(-columns * height // rows)
    return -(-rows * width // columns), width


def middle(picture: Tensor, *, height: int, width: int) -> Tensor:
    """The middle (..., height, width) of a larger picture (..., H, W)."""
    top, left = (
        round((have - want) / 2) for have, want in zip(picture.shape[-2:], (height, width), strict=True)
    )
    return picture[..., top : top + height, left : left + width]
