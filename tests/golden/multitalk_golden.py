"""Shared by the MultiTalk goldens: read a file, build its network, its conditioning and its stub VAE."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from talkstream.networks.attention import TextContext, pad_text, prepare_text
from talkstream.networks.multitalk import MultiTalkConfig, project_speech, side_by_side
from talkstream.networks.wan import WanConfig, WanModel

CONTEXT_FRAMES = 2


class MultiTalkGolden:
    """A golden file of this family: tensors by name in one dtype, its config and what is stored beside it."""

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        with safe_open(path, "pt") as file:
            self.meta = json.loads(file.metadata()["meta"])
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.config = self.meta["config"]

    def __getitem__(self, key: str) -> Tensor:
        tensor = self.tensors[key]
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def state(self, prefix: str = "sd.") -> dict[str, Tensor]:
        return {key.removeprefix(prefix): self[key] for key in self.tensors if key.startswith(prefix)}

    def text(self, model: WanModel, name: str = "in.context") -> TextContext:
        """The text padded with zero rows, and the CLIP vision tokens, as the layers see them."""
        clip = self["in.clip_fea"]
        rows = pad_text(self[name][None], self.config["text_len"])
        return prepare_text(model, rows, image_BMC=clip if clip.ndim == 3 else clip[None])


def build(golden: MultiTalkGolden) -> WanModel:
    """The network of a golden with its weights."""
    config = golden.config
    model = WanModel(
        WanConfig(
            dim=config["dim"],
            in_dim=config["in_dim"],
            ffn_dim=config["ffn_dim"],
            num_heads=config["num_heads"],
            num_layers=config["num_layers"],
            text_dim=config["text_dim"],
            image_in=1280,
            multitalk=MultiTalkConfig(
                hidden=config["intermediate_dim"],
                tokens=config["context_tokens"],
                token_width=config["output_dim"],
            ),
        ),
        dtype=golden.dtype,
    )
    model.load_state_dict(golden.state(), strict=True)
    return model.eval().requires_grad_(False)


def windows(features_AXC: Tensor, first: int, frames: int) -> Tensor:
    """Five feature frames around each video frame, clamped to the track: (1, frames, 5, X * C)."""
    around = torch.arange(-CONTEXT_FRAMES, CONTEXT_FRAMES + 1)
    places = torch.arange(first, first + frames)[:, None] + around
    return features_AXC.flatten(1)[places.clamp(0, len(features_AXC) - 1)][None]


def chunk_tokens(model: WanModel, tracks: list[Tensor], first: int, frames: int) -> Tensor:
    """Audio tokens of a chunk that starts with a latent of one frame: (1, T, P * M, E)."""
    heard = torch.cat([windows(track, first, frames) for track in tracks])
    return side_by_side(project_speech(model.audio_proj, heard, first_alone=True))


class StubVAE:
    """The goldens' stand-in for a VAE: linear in colour, 8 x 8 pixels and four frames per latent."""

    def __init__(self, golden: MultiTalkGolden) -> None:
        self._encoder, self._bias, self._decoder = golden["vae.E"], golden["vae.ebias"], golden["vae.D"]

    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """(1, 3, F, H, W) in [-1, 1] -> (1, 16, T, H / 8, W / 8)."""
        small = torch.nn.functional.avg_pool3d(video_BCFHW, (1, 8, 8))
        first, later = small[:, :, :1], small[:, :, 1:]
        pooled = torch.cat([first, later.unflatten(2, (-1, 4)).mean(3)], dim=2)
        return torch.einsum("ec,bcthw->bethw", self._encoder, pooled) + self._bias[:, None, None, None]

    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """(1, 16, T, h, w) -> (1, 3, 4 T - 3, 8 h, 8 w)."""
        small = torch.einsum("ce,bethw->bcthw", self._decoder, latents_BCTHW).tanh()
        frames = torch.cat([small[:, :, :1], small[:, :, 1:].repeat_interleave(4, dim=2)], dim=2)
        return frames.repeat_interleave(8, dim=3).repeat_interleave(8, dim=4).clamp(-1, 1)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
