"""Latents to frames by a tiny decoder (TAEHV and its kin) with its memory carried from chunk to chunk.

Its memory blocks see the frame before beside each frame, so one kept frame per block continues a stream exactly;
everything else works on single frames. A chunk passes as one batch. After TAEHV (Ollin Boer Bohan). The walk reads
attribute names only, which are those of ComfyUI's module tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class TinyDecoder:
    """One stream's decoder: the layers of a TAEHV, and the frames that the stream remembers.

    decode() takes latents in the units that the weights were trained on: normalised ones for taew2_1, the VAE's own
    for lighttaew2_1.
    """

    def __init__(self, layers: nn.Sequential, *, first_frames_dropped: int = 3, pixels: int = 1) -> None:
        """layers: memory blocks have conv and skip, growing layers a stride; others see one frame at a time.

        first_frames_dropped: frames before the first latent's own that the layers make at the start of a stream.
        pixels: edge of the square of pixels that one output position holds.

        Raises ValueError for layers without a memory block.
        """
        self._layers, self._dropped, self._pixels = layers, first_frames_dropped, pixels
        self._slots = [index for index, layer in enumerate(layers) if _remembers(layer)]
        if not self._slots:
            raise ValueError("got a decoder without memory blocks; expected TAEHV's, such as taew2_1")
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next latent starts a stream."""
        self.latents = 0
        self._last: dict[int, Tensor] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes of the kept frames."""
        return sum(frame.nbytes for frame in self._last.values())

    @torch.inference_mode()
    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Next latents of the stream (1, C, T, H, W), T >= 1 -> frames (1, 3, F, 8H, 8W), about [0, 1].

        F = 4 T, and 3 fewer at the start of the stream.
        """
        if latents_BCTHW.ndim != 5 or latents_BCTHW.shape[0] != 1 or latents_BCTHW.shape[2] < 1:
            raise ValueError(f"got latents of shape {tuple(latents_BCTHW.shape)}, expected (1, 16, T, H, W)")
        x_TCHW = latents_BCTHW[0].transpose(0, 1)
        for index, layer in enumerate(self._layers):
            x_TCHW = self._remember(index, layer, x_TCHW) if index in self._slots else layer(x_TCHW)
        if self._pixels > 1:
            x_TCHW = functional.pixel_shuffle(x_TCHW, self._pixels)
        start = 0 if self.latents else self._dropped
        self.latents += latents_BCTHW.shape[2]
        return x_TCHW[start:].transpose(0, 1)[None]

    def state_dict(self) -> dict[str, Any]:
        """Copies of the kept frames and the number of latents decoded."""
        frames = {f"last.{index}": frame.clone() for index, frame in self._last.items()}
        return {"latents": self.latents, **frames}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where state_dict() was taken, with the same layers and size of picture."""
        known = {f"last.{index}": index for index in self._slots}
        unknown = sorted(set(state) - {"latents", *known})
        if unknown:
            raise ValueError(
                f"the saved decoder state has {unknown[:3]}, which this decoder lacks: another's"
            )
        self.latents = int(state["latents"])
        self._last = {index: state[name].clone() for name, index in known.items() if name in state}

    def _remember(self, index: int, layer: nn.Module, x_TCHW: Tensor) -> Tensor:
        """A memory block: each frame beside the one before it, of this chunk or of the last one; zeros at the start."""
        last = self._last.get(index)
        before = torch.zeros_like(x_TCHW[:1]) if last is None else last
        self._last[index] = x_TCHW[-1:].clone()
        return layer(x_TCHW, torch.cat([before, x_TCHW[:-1]]))


def carried_bytes(layers: nn.Sequential, *, latent_height: int, latent_width: int, itemsize: int) -> int:
    """Bytes that a stream keeps: the last input of every memory block, which sees two of them at once."""
    numbers, area = 0, latent_height * latent_width
    for layer in layers:
        if _remembers(layer):
            first = next(m for m in layer.conv.modules() if isinstance(m, nn.Conv2d))
            numbers += first.in_channels // 2 * area
        elif isinstance(layer, nn.Upsample):
            area *= round(layer.scale_factor) ** 2
    return numbers * itemsize


def _remembers(layer: nn.Module) -> bool:
    return hasattr(layer, "conv") and hasattr(layer, "skip")
