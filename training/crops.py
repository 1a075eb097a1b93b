"""Mouths cut out of pictures: around where the drawn world says they are, or where it keeps them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CROP_SIZE = (32, 48)
HALF_WIDTH, HALF_HEIGHT = 0.25, 0.17  # of a crop, as shares of the picture's side
_CENTRE = (0.5, 0.71)  # the drawn world keeps its mouths here where no place is given
_OVERSAMPLING = 2


def mouth_crops(pixels_NCHW: Tensor, place_N4: Tensor | None = None) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1] -> mouth crops (N, 3, 32, 48); gradients pass."""
    return cut(pixels_NCHW, mouth_boxes(len(pixels_NCHW), place_N4).to(pixels_NCHW.device))


def mouth_boxes(count: int, place_N4: Tensor | None = None) -> Tensor:
    """Boxes (N, 4) that mouths are cut by: centre x, y, half width, half height as shares of the side.

    place_N4: mouth boxes of the drawn world. Their centres count and their sizes do not: a box that followed the lips
    would hide how far they are open.
    """
    boxes = torch.tensor([*_CENTRE, HALF_WIDTH, HALF_HEIGHT]).repeat(count, 1)
    if place_N4 is not None:
        boxes[:, :2] = place_N4[:, :2]
    return boxes


def cut(pixels_NCHW: Tensor, boxes_N4: Tensor, *, size: tuple[int, int] = CROP_SIZE) -> Tensor:
    """What boxes show of pictures -> (N, C, *size). A negative half width mirrors; beyond the edge the edge goes on."""
    height, width = (_OVERSAMPLING * side for side in size)
    y = (torch.arange(height, device=pixels_NCHW.device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=pixels_NCHW.device) + 0.5) / width * 2 - 1
    centre_x, centre_y, half_x, half_y = (2 * boxes_N4.to(pixels_NCHW)).unbind(1)
    across = (centre_x - 1)[:, None] + half_x[:, None] * x
    down = (centre_y - 1)[:, None] + half_y[:, None] * y
    grid = torch.stack(
        [across[:, None].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], dim=-1
    )
    fine = F.grid_sample(pixels_NCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(fine, _OVERSAMPLING)
