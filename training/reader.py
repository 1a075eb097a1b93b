"""A reader of faces: small networks that tell the mouth's numbers and open eyes from pixels. Evaluation only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codec import to_tensor
from .crops import CROP_SIZE, cut, mouth_boxes
from .initialisation import initialise
from .muon import make_optimisers

READ_NAMES = ("open", "width", "round")
FACE_NAMES = (*READ_NAMES, "teeth", "eyes")
_EYES_ABOVE_MOUTH = 0.29  # eye boxes lie so far above mouth boxes, as a share of the side
_EYES_HALF = (0.28, 0.13)
_EYES_SIZE = (16, 24)
_LIPS_APART = 0.03  # a mouth less open is drawn as a line, without teeth


@dataclass(frozen=True)
class ReaderSettings:
    """How the reader is trained. shift: of pictures, to all sides, as a share of the side."""

    steps: int = 500
    batch: int = 128
    matrix_lr: float = 0.01
    other_lr: float = 0.001
    shift: float = 0.02
    seed: int = 0


class FaceReader(nn.Module):
    """Two three-layer perceptrons: one on a mouth crop, one on a crop of the eyes."""

    def __init__(self) -> None:
        super().__init__()
        self.mouth = _perceptron(CROP_SIZE, len(FACE_NAMES) - 1)
        self.eyes = _perceptron(_EYES_SIZE, 1)

    def forward(self, pixels_NCHW: Tensor, boxes_N4: Tensor) -> Tensor:
        """Pictures in [-1, 1] and their mouth boxes -> (N, 5), columns FACE_NAMES, about [0, 1]."""
        above = boxes_N4 - boxes_N4.new_tensor([0.0, _EYES_ABOVE_MOUTH, 0.0, 0.0])
        boxes_of_eyes = torch.cat([above[:, :2], above.new_tensor(_EYES_HALF).expand(len(above), 2)], dim=1)
        mouth = cut(pixels_NCHW, boxes_N4).flatten(1)
        eyes = cut(pixels_NCHW, boxes_of_eyes, size=_EYES_SIZE).flatten(1)
        return torch.cat([self.mouth(mouth), self.eyes(eyes)], dim=1)

    @torch.no_grad()
    def read(self, frames: np.ndarray, place: np.ndarray | None = None) -> np.ndarray:
        """Frames (F, H, W, 3) uint8, and their mouth boxes (F, 4) if known -> (F, 5) float32, columns FACE_NAMES."""
        boxes = mouth_boxes(len(frames), None if place is None else torch.from_numpy(np.array(place)))
        return self(to_tensor(frames[None])[0].transpose(0, 1), boxes).numpy()


def _perceptron(size: tuple[int, int], outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3 * size[0] * size[1], 256), nn.GELU(), nn.Linear(256, 64), nn.GELU(),
        nn.Linear(64, outputs),
    )  # fmt: skip


def shown_truth(mouth: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """True mouths (N, 5) and open eyes (N,) -> (N, 5), columns FACE_NAMES, as seen: closed lips hide teeth."""
    teeth = np.where(mouth[:, 0] < _LIPS_APART, 0.0, mouth[:, 3])
    return np.column_stack([mouth[:, : len(READ_NAMES)], teeth, eyes]).astype(np.float32)


def train_reader(
    frames: np.ndarray,
    truth: np.ndarray,
    settings: ReaderSettings = ReaderSettings(),  # noqa: B008
    *,
    place: np.ndarray | None = None,
) -> FaceReader:
    """Train on pictures (N, H, W, 3) uint8 and their shown_truth (N, 5), with small shifts and tints."""
    reader = FaceReader()
    initialise(reader, torch.Generator().manual_seed(settings.seed))
    optimisers = make_optimisers(reader, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr)
    random = np.random.default_rng(settings.seed)
    wanted = torch.from_numpy(truth)
    known = mouth_boxes(len(frames), None if place is None else torch.from_numpy(np.array(place)))
    for step in range(settings.steps):
        share = max(0.02, 1 - step / settings.steps)
        for optimiser, peak in zip(optimisers, (settings.matrix_lr, settings.other_lr), strict=True):
            optimiser.param_groups[0]["lr"] = peak * share
        chosen = np.sort(random.choice(len(frames), settings.batch, replace=False))
        pixels = to_tensor(frames[chosen][:, None])[:, :, 0]
        boxes = known[chosen]
        boxes[:, :2] += torch.from_numpy(
            random.uniform(-settings.shift, settings.shift, (len(chosen), 2))
        ).float()
        tint = torch.from_numpy(random.uniform(-0.05, 0.05, (len(chosen), 3, 1, 1)).astype(np.float32))
        F.mse_loss(reader(pixels + tint, boxes), wanted[chosen]).backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return reader.requires_grad_(False)
