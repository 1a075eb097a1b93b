"""SyncNet: lips and speech as points of one space, near where they belong together (Chung and Zisserman 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.speech_encoder import MEL_PER_FRAME
from .crops import CROP_SIZE, mouth_crops

WINDOW_FRAMES = 5  # 0.2 s of lips, and the 20 mel frames of the same time
RADIUS = 10.0  # unrelated windows are then about 14 apart, as they are in the field's network


@dataclass(frozen=True)
class SyncNetConfig:
    """Widths. bins: of the mel frames; lips: channels of the three picture convolutions; frame: numbers kept of a
    frame; width: of an embedding.
    """

    bins: int = 40
    lips: tuple[int, int, int] = (32, 64, 96)
    frame: int = 192
    speech: tuple[int, int] = (128, 192)
    width: int = 256


class LipTrunk(nn.Module):
    """Three strided convolutions on single pictures; works on any size."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = channels
        self.convolutions = nn.ModuleList([
            nn.Conv2d(3, first, 5, stride=2, padding=2), nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
        ])  # fmt: skip

    def forward(self, pixels_NCHW: Tensor) -> list[Tensor]:
        """Pictures in [-1, 1] -> the maps (N, c, h, w) after each convolution, sides halved each time."""
        maps, x = [], pixels_NCHW
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
            maps.append(x)
        return maps


class SyncNet(nn.Module):
    """Two encoders without padding in time: F frames or 4F mel frames -> F - 4 windows at a stride of one frame."""

    def __init__(self, config: SyncNetConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = LipTrunk(config.lips)
        cells = config.lips[-1] * (CROP_SIZE[0] // 8) * (CROP_SIZE[1] // 8)
        self.frame = nn.Linear(cells, config.frame)
        self.lips = nn.Sequential(
            nn.Conv1d(config.frame, config.width, WINDOW_FRAMES), nn.GELU(),
            nn.Conv1d(config.width, config.width, 1),
        )  # fmt: skip
        first, second = config.speech
        self.speech = nn.Sequential(  # 6, then 12, then 20 mel frames, at a stride of four
            nn.Conv1d(config.bins, first, 6, stride=2), nn.GELU(), nn.Conv1d(first, second, 4, stride=2), nn.GELU(),
            nn.Conv1d(second, config.width, 3), nn.GELU(), nn.Conv1d(config.width, config.width, 1),
        )  # fmt: skip

    def embed_crops(self, crops_BFCHW: Tensor) -> Tensor:
        """Mouth crops (B, F, 3, 32, 48) in [-1, 1] -> lip embeddings (B, F - 4, width) of length RADIUS."""
        frames = self.trunk(crops_BFCHW.flatten(0, 1))[-1].flatten(1)
        seen = F.gelu(self.frame(frames)).unflatten(0, crops_BFCHW.shape[:2])
        return _on_sphere(self.lips(seen.transpose(1, 2)).transpose(1, 2))

    def embed_lips(self, pixels_BCFHW: Tensor, place_BF4: Tensor | None = None) -> Tensor:
        """Pictures (B, 3, F, H, W) in [-1, 1] -> lip embeddings (B, F - 4, width); place: see crops.mouth_boxes."""
        count = pixels_BCFHW.shape[2]
        _require_window(count)
        place = None if place_BF4 is None else place_BF4.flatten(0, 1)
        crops = mouth_crops(pixels_BCFHW.transpose(1, 2).flatten(0, 1), place)
        return self.embed_crops(crops.unflatten(0, (-1, count)))

    def embed_speech(self, mel_BAM: Tensor) -> Tensor:
        """Mel frames (B, 4F, bins) -> speech embeddings (B, F - 4, width) of length RADIUS."""
        _require_window(mel_BAM.shape[1] // MEL_PER_FRAME)
        return _on_sphere(self.speech(mel_BAM.transpose(1, 2)).transpose(1, 2))


def _on_sphere(x: Tensor) -> Tensor:
    return RADIUS * F.normalize(x, dim=-1)


def _require_window(frames: int) -> None:
    if frames < WINDOW_FRAMES:
        raise ValueError(f"{frames} frames are less than one window; SyncNet needs at least {WINDOW_FRAMES}")


def load_syncnet(path: Path) -> SyncNet:
    """A trained SyncNet, frozen, from its stage's folder or the checkpoint in it.

    Raises FileNotFoundError where there is none and ValueError where the file is another stage's.
    """
    file = path / "training.pt" if path.is_dir() else path
    if not file.exists():
        raise FileNotFoundError(f"{path} holds no SyncNet; train one: training.train recipes/syncnet.yaml")
    stage = torch.load(file, map_location="cpu", weights_only=True)["stage"]
    if "syncnet" not in stage:
        raise ValueError(f"{file} holds {sorted(stage)}; expected the checkpoint of a syncnet stage")
    network = SyncNet(config_of(stage["syncnet"]))
    network.load_state_dict(stage["syncnet"])
    return network.eval().requires_grad_(False)


def config_of(tensors: dict[str, Tensor]) -> SyncNetConfig:
    """The widths of a SyncNet, read from its weights."""
    lips = tuple(tensors[f"trunk.convolutions.{i}.weight"].shape[0] for i in range(3))
    speech = tuple(tensors[f"speech.{i}.weight"].shape[0] for i in (0, 2))
    return SyncNetConfig(
        bins=tensors["speech.0.weight"].shape[1], lips=lips, frame=tensors["frame.weight"].shape[0],
        speech=speech, width=tensors["lips.2.weight"].shape[0],
    )  # fmt: skip
