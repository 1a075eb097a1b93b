"""A face turned upright into a square crop, and back: LatentSync's three-point alignment.

Left brow, right brow and nose are laid on a template by a similarity (turn, size, place; no shear). The template's
canvas is 3:4 and is squashed into the square, as the published networks were trained. Matrices act on pixel
centres: pixel (0, 0) has its centre at (0, 0), as in OpenCV.

Both ways sample bilinearly. Where several pixels fall into one, an n x n grid of samples is averaged, so that nothing
flickers; the published code warps and resizes in two steps (bilinear, Lanczos) instead.
"""

from __future__ import annotations

from math import ceil

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Left brow, right brow, nose, on a canvas of 75 x 100 that the square crop shows.
TEMPLATE_32 = np.array([[17.0, 20.0], [58.0, 20.0], [37.5, 40.0]])
CANVAS = (75, 100)
UNITS_PER_SIDE = 2.8 / 256  # how much of the template's unit one pixel of the side is
OUTSIDE = 127.0  # grey level beyond the picture's border
# Where the three points lie in a box from hairline to chin and from cheek to cheek: fractions of its width and height,
# measured on photographs.
POINTS_IN_BOX_32 = np.array([[0.26, 0.27], [0.74, 0.27], [0.5, 0.53]])


def points_in_box(box_4: np.ndarray) -> np.ndarray:
    """(x0, y0, x1, y1) of an upright face -> its three points (3, 2), in pixels."""
    x0, y0, x1, y1 = (float(edge) for edge in box_4)
    return np.array([x0, y0]) + POINTS_IN_BOX_32 * np.array([x1 - x0, y1 - y0])


def similarity(points_32: np.ndarray, template_32: np.ndarray) -> np.ndarray:
    """(2, 3) that turns, sizes and moves `points` onto `template` (Procrustes, sizes by standard deviation)."""
    centre, centre_to = points_32.mean(0), template_32.mean(0)
    spread, spread_to = (points_32 - centre).std(ddof=1), (template_32 - centre_to).std(ddof=1)
    if spread < 1e-6:
        raise ValueError("the three points of the face are one point; give a larger box")
    normal, normal_to = (points_32 - centre) / spread, (template_32 - centre_to) / spread_to
    u, _, v = np.linalg.svd(normal.T @ normal_to)
    turn = v.T @ u.T
    if np.linalg.det(turn) < 0:
        turn = v.T @ np.diag([1.0, -1.0]) @ u.T
    scaled = turn * (spread_to / spread)
    return np.concatenate([scaled, (centre_to - scaled @ centre)[:, None]], axis=1)


def aligned_canvas(points_32: np.ndarray, *, side: int) -> np.ndarray:
    """(2, 3) from picture pixels to the template's 3:4 canvas for a crop of this side (420 x 560 for 512)."""
    return similarity(points_32, TEMPLATE_32 * (side * UNITS_PER_SIDE))


def aligned_square(points_32: np.ndarray, *, side: int) -> np.ndarray:
    """(2, 3) from picture pixels to the square crop: the canvas, then its resize to side x side."""
    squash = np.array([1.0 / (units * UNITS_PER_SIDE) for units in CANVAS])[:, None]
    matrix = aligned_canvas(points_32, side=side) * squash
    matrix[:, 2] += (squash[:, 0] - 1.0) / 2  # a resize keeps the picture's edge, not its first centre
    return matrix


def inverse(matrix_23: np.ndarray) -> np.ndarray:
    """(2, 3) of the way back."""
    turn = np.linalg.inv(matrix_23[:, :2])
    return np.concatenate([turn, -turn @ matrix_23[:, 2:]], axis=1)


def align(picture_HWC: np.ndarray, matrix_23: np.ndarray, *, side: int) -> np.ndarray:
    """(H, W, 3) uint8 -> the crop (side, side, 3) uint8 that `matrix` (picture to crop) shows.

    Beyond the picture's border it is grey.
    """
    back = inverse(matrix_23)
    window = _window(back, width=side, height=side, limits=picture_HWC.shape[:2])
    if window is None:
        return np.full((side, side, 3), round(OUTSIDE), np.uint8)
    x0, y0, x1, y1 = window
    edge = _samples_per_pixel(
        back
    )  # the picture's edge goes on so far, so that pasting gives its own pixels back
    padded_HWC = np.pad(picture_HWC[y0:y1, x0:x1], ((edge, edge), (edge, edge), (0, 0)), mode="edge")
    region_CHW = torch.from_numpy(padded_HWC).permute(2, 0, 1).float() - OUTSIDE
    back = back - np.array([[0, 0, x0 - edge], [0, 0, y0 - edge]])
    crop_CHW = _sample(region_CHW, back, width=side, height=side) + OUTSIDE
    return crop_CHW.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def paste(
    picture_HWC: np.ndarray, crop_HWC: np.ndarray, matrix_23: np.ndarray, mask_SS: np.ndarray
) -> np.ndarray:
    """The picture with the crop laid back into it: a new (H, W, 3) uint8.

    crop_HWC: (side, side, 3) uint8; matrix: picture to crop; mask_SS: (side, side) float, 1 where the crop shows, 0
    where the picture stays. Pixels that the mask does not reach are the picture's own, bit for bit.
    """
    side = crop_HWC.shape[0]
    if crop_HWC.shape != (side, side, 3) or mask_SS.shape != (side, side):
        raise ValueError(
            f"got a crop {crop_HWC.shape} and a mask {mask_SS.shape}; expected (side, side, 3) and (side, side)"
        )
    pasted = picture_HWC.copy()
    window = _window(inverse(matrix_23), width=side, height=side, limits=picture_HWC.shape[:2])
    if window is None:
        return pasted
    x0, y0, x1, y1 = window
    crop_CHW = torch.from_numpy(np.ascontiguousarray(crop_HWC)).permute(2, 0, 1).float()
    mask_1HW = torch.from_numpy(np.ascontiguousarray(mask_SS, dtype=np.float32))[None]
    shift = np.concatenate([matrix_23[:, :2], matrix_23 @ np.array([[x0], [y0], [1.0]])], axis=1)
    size = {"width": x1 - x0, "height": y1 - y0}
    weight_1HW = _sample(mask_1HW, shift, **size).clamp(0, 1)
    drawn_CHW = _sample(crop_CHW * mask_1HW, shift, **size)
    region_CHW = torch.from_numpy(picture_HWC[y0:y1, x0:x1]).permute(2, 0, 1).float()
    blended_CHW = region_CHW * (1 - weight_1HW) + drawn_CHW
    levels_HWC = blended_CHW.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    touched = (weight_1HW[0] > 0).numpy()[..., None]
    pasted[y0:y1, x0:x1] = np.where(touched, levels_HWC, pasted[y0:y1, x0:x1])
    return pasted


def _window(
    back_23: np.ndarray, *, width: int, height: int, limits: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of the pixels that a crop of this size can touch, within (H, W); None where it misses them."""
    corners = np.array([[-1, -1, 1], [width, -1, 1], [-1, height, 1], [width, height, 1]], float)
    points = corners @ back_23.T
    low = np.floor(points.min(0)).astype(int) - 1
    high = np.ceil(points.max(0)).astype(int) + 2
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(limits[1], int(high[0])), min(limits[0], int(high[1]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _sample(image_CHW: Tensor, to_image_23: np.ndarray, *, width: int, height: int) -> Tensor:
    """(C, height, width) of image values at `to_image` of each pixel; zero outside the image.

    Averages n x n samples in each pixel where a pixel spans n of the image's.
    """
    n = _samples_per_pixel(to_image_23)
    xs = (torch.arange(width * n, dtype=torch.float64) + 0.5) / n - 0.5
    ys = (torch.arange(height * n, dtype=torch.float64) + 0.5) / n - 0.5
    (a, b, c), (d, e, f) = to_image_23.tolist()
    u_HW = a * xs[None, :] + b * ys[:, None] + c
    v_HW = d * xs[None, :] + e * ys[:, None] + f
    image_height, image_width = image_CHW.shape[1:]
    grid_HW2 = torch.stack([(2 * u_HW + 1) / image_width - 1, (2 * v_HW + 1) / image_height - 1], dim=-1)
    sampled = functional.grid_sample(
        image_CHW[None], grid_HW2[None].float(), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return (sampled if n == 1 else functional.avg_pool2d(sampled, n))[0]


def _samples_per_pixel(to_image_23: np.ndarray) -> int:
    """How many of the image's pixels one pixel spans, along its longer side, to the nearest."""
    return max(1, ceil(float(np.linalg.norm(to_image_23[:, :2], axis=0).max()) - 0.5))
