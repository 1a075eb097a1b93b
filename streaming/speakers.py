"""Where each speaker is in the picture, from masks or boxes to the token grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

LATENT_PIXELS = 8
TOKEN_PIXELS = 16
MARGIN = 0.05
GROWN = 0.25
Box = tuple[float, float, float, float]


def boxes_side_by_side(speakers: int) -> list[Box]:
    """A box (left, top, right, bottom) in 0..1 for each speaker, from left to right with a small margin."""
    width = 1.0 / speakers
    inset = MARGIN * width
    return [(i * width + inset, MARGIN, (i + 1) * width - inset, 1 - MARGIN) for i in range(speakers)]


def boxes_around_faces(faces: Sequence[Box]) -> list[Box]:
    """Boxes around faces in 0..1, hairline to chin, to boxes of speakers: a quarter larger on every side.

    Where two of the larger ones meet, all stay as they are.
    """
    grown = []
    for left, top, right, bottom in faces:
        across, down = GROWN * (right - left), GROWN * (bottom - top)
        grown.append(
            (max(0, left - across), max(0, top - down), min(1, right + across), min(1, bottom + down))
        )
    meet = any(_meet(one, other) for i, one in enumerate(grown) for other in grown[:i])
    return list(faces) if meet else grown


def _meet(one: Box, other: Box) -> bool:
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in (0, 1))


def masks_of_boxes(boxes: Sequence[Box], *, height: int, width: int) -> Tensor:
    """Boxes in 0..1 of a picture -> masks (P, height, width), 1 inside."""
    masks = torch.zeros(len(boxes), height, width)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = 1
    return masks


def token_masks(masks_PHW: Tensor) -> Tensor:
    """Speakers' masks on a video's picture -> rows on its token grid, the background as the last one.

    masks: (P, H, W) at the size of the video, inside where above 0. Nearest neighbours in two steps, as InfiniteTalk
    (section 3.3). Returns (P + 1, tokens), 0 or 1. Raises ValueError for masks that overlap or are empty there.
    """
    inside = (masks_PHW > 0).float()
    rows = torch.cat([inside, 1 - inside.amax(0, keepdim=True)])
    height, width = masks_PHW.shape[1:]
    for pixels in (LATENT_PIXELS, TOKEN_PIXELS):
        rows = interpolate(rows[None], size=(height // pixels, width // pixels), mode="nearest")[0]
    rows = rows.flatten(1)
    _check_apart(rows[:-1])
    return rows


def _check_apart(rows_PL: Tensor) -> None:
    for i, row in enumerate(rows_PL):
        if not bool(row.any()):
            raise ValueError(
                f"the mask of speaker {i + 1} covers no token of the video; draw it larger, "
                "or inside the part of the picture that is shown"
            )
        for j in range(i):
            shared = int((row * rows_PL[j]).sum())
            if shared:
                raise ValueError(
                    f"the masks of speakers {j + 1} and {i + 1} overlap on {shared} of {row.numel()} tokens; "
                    "draw them apart"
                )
