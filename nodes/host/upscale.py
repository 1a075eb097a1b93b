"""The host's UPSCALE_MODEL on one picture at a time, tiled as core's Upscale Image (using Model) does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

TILE, OVERLAP, SMALLEST_TILE = 512, 32, 128
WORK_BYTES_PER_PIXEL_BYTE = 384.0
"""Core's own estimate of what such a network needs for one tile."""


def check_upscaler(model: Any) -> int:  # noqa: ANN401  (the host's UPSCALE_MODEL has no class of its own)
    """How many times larger it makes a side. Raises ValueError for a model that is not for colour pictures."""
    channels = model.input_channels, model.output_channels
    if channels != (3, 3):
        raise ValueError(
            f"got an upscale model from {channels[0]} to {channels[1]} channels, expected one for colour pictures (3); "
            "load another one"
        )
    return int(model.scale)


def upscale_bytes(model: Any) -> int:  # noqa: ANN401
    """Memory beside its weights while a tile is worked on."""
    return int(TILE * TILE * 3 * 4 * max(model.scale, 1) * WORK_BYTES_PER_PIXEL_BYTE)


class HostUpscaler:
    """An upscale model that is on its device. Tiles stay as small as running out of memory once made them."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self.model = model
        self._tile = TILE

    def enlarge(self, pictures_FHWC: Tensor, *, done: Callable[[int], None]) -> Tensor:
        """Pictures in [0, 1], scaled: (F, scale H, scale W, 3), float32 on the CPU. done(n): after n pictures."""
        frames, height, width, channels = pictures_FHWC.shape
        scale = int(self.model.scale)
        larger = torch.empty(frames, scale * height, scale * width, channels)
        for index, picture_HWC in enumerate(pictures_FHWC):
            larger[index] = self._one(picture_HWC.movedim(-1, 0)[None])[0].movedim(0, -1).clamp_(0.0, 1.0)
            done(index + 1)
        return larger

    def _one(self, picture_BCHW: Tensor) -> Tensor:
        on_device = picture_BCHW.to(self.model.patcher.load_device)
        while True:
            try:
                return comfy.utils.tiled_scale(
                    on_device,
                    lambda part_BCHW: self.model(part_BCHW.float()),
                    tile_x=self._tile,
                    tile_y=self._tile,
                    overlap=OVERLAP,
                    upscale_amount=self.model.scale,
                )
            except Exception as error:
                if not comfy.model_management.is_oom(error) or self._tile <= SMALLEST_TILE:
                    raise
                self._tile //= 2
