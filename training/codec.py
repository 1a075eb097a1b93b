"""Stage 1: the codec. Crops of drawn clips, weighted towards mouth and eyes, trained end to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.causal_vae import CausalVAE, VAEConfig
from .codec_init import initialise_codec
from .losses import edge_loss, psnr, weighted_charbonnier
from .muon import make_optimisers
from .parallel import Draws, draw, update
from .precision import half_precision
from .quick_codec import quicken
from .world.dataset import Dataset

_EVALUATION_FRAMES = 21
_EVALUATION_CLIPS = 8


@dataclass(frozen=True)
class CodecSettings:
    """Numbers of the codec stage.

    Each of its phases is (share of the budget at which it ends, crops); a crop is (side, frames, clips per batch) and
    one is drawn per step. Short clips show more pictures per second of training, long ones fill the temporal caches.
    """

    dim: int = 16
    phases: tuple[tuple[float, tuple[tuple[int, int, int], ...]], ...] = (
        (0.45, ((48, 9, 4), (64, 9, 2))),
        (0.70, ((48, 17, 2), (64, 17, 1), (64, 9, 2))),
        (1.0, ((48, 17, 2), (48, 33, 1), (64, 33, 1), (96, 17, 1))),
    )
    matrix_lr: float = 0.008
    other_lr: float = 0.002
    latent_noise: float = 0.05
    latent_penalty: float = 1e-3
    mouth_weight: float = 3.0
    eye_weight: float = 2.0
    edge_share: float = 0.3
    edge_start: float = 0.5
    decoder_only: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for _, crops in self.phases:
            for side, frames, clips in crops:
                if side % 8 or frames % 4 != 1 or clips < 1:
                    raise ValueError(
                        f"crop (side {side}, frames {frames}, clips {clips}); expected a side that is a multiple of 8, "
                        "1 + 4n frames and at least one clip"
                    )

    def crops(self, progress: float) -> tuple[tuple[int, int, int], ...]:
        """Crops of the phase that runs at this share of the budget."""
        return next((crops for end, crops in self.phases if progress <= end), self.phases[-1][1])


def importance_map(side: int, settings: CodecSettings) -> np.ndarray:
    """Static weights (H, W) of one picture: 1, more around the mouth and the eyes, mean 1."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    weight = np.ones((side, side), np.float32)
    weight[(abs(x - 0.5) < 0.22) & (abs(y - 0.71) < 0.15)] += settings.mouth_weight - 1
    weight[(abs(x - 0.5) < 0.24) & (abs(y - 0.41) < 0.11)] += settings.eye_weight - 1
    return weight / weight.mean()


def to_tensor(frames: np.ndarray) -> Tensor:
    """(B, F, H, W, 3) uint8 -> (B, 3, F, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(frames)).permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1)


class CodecStage:
    """Trains encoder and decoder, or the decoder alone behind a frozen encoder."""

    def __init__(
        self,
        settings: CodecSettings,
        data: Dataset,
        held_out: Dataset,
        *,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        self.settings, self._data, self._held_out, self._device = settings, data, held_out, device
        self.vae = CausalVAE(VAEConfig(dim=settings.dim))
        initialise_codec(self.vae, torch.Generator().manual_seed(settings.seed))
        self.vae.to(device)
        if device.type == "cpu":
            quicken(self.vae)
        if settings.decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.conv1.requires_grad_(False)
        self.optimisers = make_optimisers(
            self.vae, matrix_lr=settings.matrix_lr, other_lr=settings.other_lr,
            keep_adam=lambda name: name in ("encoder.conv1.weight", "decoder.head.2.weight"),
        )  # fmt: skip
        self._importance = importance_map(data.frames.shape[2], settings)

    def start_from(self, vae: CausalVAE) -> None:
        """Begin with another codec's weights. Raises ValueError for one of another width."""
        own, given = self.vae.config.dim, vae.config.dim
        if given != own:
            raise ValueError(
                f"the codec to start from is {given} wide, this stage's is {own}; set dim: {given}"
            )
        self.vae.load_state_dict(vae.state_dict())

    def _batch(self, drawn: Draws, progress: float) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, F, side, side) in [-1, 1] and their weights (B, 1, 1, side, side)."""
        choices, random = self.settings.crops(progress), drawn.own
        side, frames, count = choices[drawn.shared.integers(len(choices))]
        total, length, full = self._data.frames.shape[:3]
        crops, weights = [], []
        for _ in range(count):
            clip = random.integers(total)
            start = 0 if random.random() < 0.2 else random.integers(length - frames + 1)
            top, left = _crop_corner(random, side=side, full=full)
            rows, columns = slice(top, top + side), slice(left, left + side)
            picture = self._data.frames[clip, start : start + frames, rows, columns]
            weight = self._importance[rows, columns]
            mirrored = random.random() < 0.5
            crops.append(picture[:, :, ::-1] if mirrored else picture)
            weights.append(weight[:, ::-1] if mirrored else weight)
        pixels = to_tensor(np.stack(crops))
        weight = torch.from_numpy(np.stack(weights).copy())[:, None, None]
        return pixels.to(self._device), weight.to(self._device)

    def _loss(self, pixels: Tensor, weight: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        s = self.settings
        with half_precision(self._device), torch.set_grad_enabled(not s.decoder_only):
            mean = self.vae.encode(pixels)
        noise = (torch.randn(mean.shape, generator=generator) * s.latent_noise).to(mean)
        with half_precision(self._device):
            output = self.vae.decode(mean + noise)
        output, mean = output.float(), mean.float()
        pixel = weighted_charbonnier(output, pixels, weight)
        edges = edge_loss(output, pixels, weight)
        square = (weight * (output - pixels).square()).mean()
        return pixel, square, edges, mean.square().mean()

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One update on one batch of crops."""
        drawn = draw(self.settings.seed, step)
        pixels, weight = self._batch(drawn, progress)
        pixel, square, edges, power = self._loss(pixels, weight, drawn.noise)
        edge_share = self.settings.edge_share * max(0.0, progress - self.settings.edge_start)
        loss = pixel + square + edge_share * edges + self.settings.latent_penalty * power
        norm = update(self.optimisers, loss, self.vae, max_norm=1.0)
        return {"l1": pixel.item(), "edges": edges.item(), "latent_power": power.item(), "grad": norm.item()}

    @torch.no_grad()
    def reconstruct(self, frames: np.ndarray) -> Tensor:
        """(B, F, H, W, 3) uint8 -> reconstruction (B, 3, F, H, W) in [-1, 1]."""
        with half_precision(self._device):
            pixels = to_tensor(frames).to(self._device)
            return self.vae.decode(self.vae.encode(pixels)).float().clamp_(-1, 1)

    def evaluate(self) -> dict[str, float]:
        """PSNR in dB on whole held-out pictures, all over and around the mouth."""
        side = self._held_out.frames.shape[2]
        mouth = np.s_[:, :, :, int(0.58 * side) : int(0.85 * side), int(0.28 * side) : int(0.72 * side)]
        values = []
        for clip in range(min(_EVALUATION_CLIPS, len(self._held_out.frames))):
            frames = self._held_out.frames[clip : clip + 1, 30 : 30 + _EVALUATION_FRAMES]
            truth, output = to_tensor(frames), self.reconstruct(frames).cpu()
            values.append((psnr(output, truth), psnr(output[mouth], truth[mouth])))
        whole, around = (sum(column) / len(column) for column in zip(*values, strict=True))
        return {"psnr": whole, "mouth_psnr": around}

    def state_dict(self) -> dict[str, Any]:
        """The codec's weights."""
        return {"vae": self.vae.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        self.vae.load_state_dict(state["vae"])


def _crop_corner(random: np.random.Generator, *, side: int, full: int) -> tuple[int, int]:
    """Top-left corner of a crop: half of them near the mouth, a fifth near the eyes, the rest anywhere."""
    kind = random.random()
    if kind < 0.7:
        centre_y = 0.70 if kind < 0.48 else 0.42
        spread = 0.10 * full
        top = round(centre_y * full - side / 2 + random.uniform(-spread, spread))
        left = round(0.5 * full - side / 2 + random.uniform(-2 * spread, 2 * spread))
        return int(np.clip(top, 0, full - side)), int(np.clip(left, 0, full - side))
    return int(random.integers(full - side + 1)), int(random.integers(full - side + 1))
