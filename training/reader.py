"""A reader of faces: small networks that find the mouth and tell its numbers and open eyes. Evaluation only."""

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
_EYES_ABOVE_MOUTH = 0.26  # eye boxes lie so far above mouth boxes, as a share of the side
_EYES_HALF = (0.28, 0.13)
_EYES_SIZE = (16, 24)
_WHOLE_SIZE = (32, 32)
_CHANNELS = (16, 32, 48)
_STEADY_FRAMES = 5  # heads move slowly: a found mouth is the mean of so many frames
_PLACE_WEIGHT = 20.0  # errors of places are small numbers beside those of mouths
_LIPS_APART = 0.03  # a mouth less open is drawn as a line, without teeth


@dataclass(frozen=True)
class ReaderSettings:
    """How the reader is trained. shift, sway: largest error of a box and of a head's place, as shares of the side."""

    steps: int = 600
    batch: int = 64
    matrix_lr: float = 0.02
    other_lr: float = 0.003
    shift: float = 0.04
    sway: float = 0.04
    seed: int = 0


class FaceReader(nn.Module):
    """Three small convolutional networks: on the whole picture, on a mouth crop, on a crop of the eyes."""

    def __init__(self) -> None:
        super().__init__()
        self.place = _network(_WHOLE_SIZE, 2)
        self.mouth = _network(CROP_SIZE, len(FACE_NAMES) - 1 + 2)
        self.eyes = _network(_EYES_SIZE, 1)

    def forward(self, pixels_NCHW: Tensor, boxes_N4: Tensor) -> Tensor:
        """Pictures in [-1, 1] and their mouth boxes -> (N, 7): columns FACE_NAMES, about [0, 1], then how far right and
        down of its box's centre the mouth lies, in shares of the side.
        """
        above = boxes_N4 - boxes_N4.new_tensor([0.0, _EYES_ABOVE_MOUTH, 0.0, 0.0])
        boxes_of_eyes = torch.cat([above[:, :2], above.new_tensor(_EYES_HALF).expand(len(above), 2)], dim=1)
        mouth, away = self.mouth(cut(pixels_NCHW, boxes_N4)).split([len(FACE_NAMES) - 1, 2], dim=1)
        eyes = self.eyes(cut(pixels_NCHW, boxes_of_eyes, size=_EYES_SIZE))
        return torch.cat([mouth, eyes, away], dim=1)

    def centre(self, pixels_NCHW: Tensor, moved_N2: Tensor) -> Tensor:
        """Centres (N, 2) of the mouths in pictures, as seen through a frame that is moved by shares of the side."""
        half = moved_N2.new_full((len(moved_N2), 2), 0.5)
        seen = cut(pixels_NCHW, torch.cat([0.5 + moved_N2, half], dim=1), size=_WHOLE_SIZE)
        return self.place(seen) + mouth_boxes(1)[0, :2] + moved_N2

    @torch.no_grad()
    def find(self, frames: np.ndarray) -> np.ndarray:
        """Frames (F, H, W, 3) uint8 of one clip -> mouth boxes (F, 4) float32, steady in time."""
        pixels = to_tensor(frames[None])[0].transpose(0, 1)
        boxes = mouth_boxes(len(frames))
        boxes[:, :2] = self.centre(pixels, torch.zeros(len(frames), 2))
        found = (boxes[:, :2] + self(pixels, boxes)[:, -2:]).T[None]
        around = F.pad(found, (_STEADY_FRAMES // 2, _STEADY_FRAMES // 2), mode="replicate")
        boxes[:, :2] = F.avg_pool1d(around, _STEADY_FRAMES, stride=1)[0].T
        return boxes.numpy()

    @torch.no_grad()
    def read(self, frames: np.ndarray, place: np.ndarray | None = None) -> np.ndarray:
        """Frames (F, H, W, 3) uint8 of one clip -> (F, 5) float32, columns FACE_NAMES.

        place: mouth boxes (F, 4) where they are known; without them mouths are looked for.
        """
        known = None if place is None else torch.from_numpy(np.array(place, np.float32))
        boxes = torch.from_numpy(self.find(frames)) if known is None else mouth_boxes(len(frames), known)
        return self(to_tensor(frames[None])[0].transpose(0, 1), boxes)[:, : len(FACE_NAMES)].numpy()


def _network(size: tuple[int, int], outputs: int) -> nn.Sequential:
    first, second, third = _CHANNELS
    cells = third * (size[0] // 8) * (size[1] // 8)
    return nn.Sequential(
        nn.Conv2d(3, first, 5, stride=2, padding=2), nn.GELU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1), nn.GELU(),
        nn.Conv2d(second, third, 3, stride=2, padding=1), nn.GELU(),
        nn.Flatten(), nn.Linear(cells, 128), nn.GELU(), nn.Linear(128, outputs),
    )  # fmt: skip


def _uniform(random: np.random.Generator, most: float, count: int) -> Tensor:
    return torch.from_numpy(random.uniform(-most, most, (count, 2)).astype(np.float32))


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
    """Train on pictures (N, H, W, 3) uint8, their shown_truth (N, 5) and mouth boxes (N, 4), with shifts and tints.

    Without boxes mouths are taken to be where the drawn world keeps them.
    """
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
        pixels += torch.from_numpy(random.uniform(-0.05, 0.05, (len(chosen), 3, 1, 1)).astype(np.float32))
        boxes, away = known[chosen], _uniform(random, settings.shift, len(chosen))
        true_centre = boxes[:, :2].clone()
        boxes[:, :2] -= away
        centre = reader.centre(pixels, _uniform(random, settings.sway, len(chosen)))
        read, found = reader(pixels, boxes).split([len(FACE_NAMES), 2], dim=1)
        misplaced = F.mse_loss(centre, true_centre) + F.mse_loss(found, away)
        (F.mse_loss(read, wanted[chosen]) + _PLACE_WEIGHT * misplaced).backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return reader.requires_grad_(False)
