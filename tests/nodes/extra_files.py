"""Files beside the students: a LoRA, an upscale model and refined decoders, small and random."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from talkstream.tests import layouts
from talkstream.tests.fakes import random_tensors

SCALE, FEATURES = 2, 4


def write_extras(models: Path) -> None:
    write_lora(models / "loras" / "tiny_lora.safetensors")
    write_upscaler(models / "upscale_models" / "tiny_x2.safetensors")
    refined = random_tensors(layouts.vae_decoder(8, 16), seed=9)
    save_file(refined, str(models / "vae" / "refined_decoder.safetensors"))


def write_lora(path: Path, *, rank: int = 4) -> None:
    """Rank 4 on q of every block of tests.nodes.model_files' student, in the names of Wan LoRAs."""
    generator, tensors = torch.Generator().manual_seed(8), {}
    for block in range(4):
        name = f"diffusion_model.blocks.{block}.self_attn.q"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, 128, generator=generator)
        tensors[f"{name}.lora_B.weight"] = 0.3 * torch.randn(128, rank, generator=generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path))


def write_upscaler(path: Path) -> None:
    """The smallest network of the Real-ESRGAN compact kind, twice as large."""
    generator = torch.Generator().manual_seed(6)

    def convolution(rows: int, columns: int) -> torch.Tensor:
        return 0.1 * torch.randn(rows, columns, 3, 3, generator=generator)

    tensors = {
        "body.0.weight": convolution(FEATURES, 3),
        "body.0.bias": torch.zeros(FEATURES),
        "body.1.weight": torch.full((FEATURES,), 0.2),
        "body.2.weight": convolution(FEATURES, FEATURES),
        "body.2.bias": torch.zeros(FEATURES),
        "body.3.weight": torch.full((FEATURES,), 0.2),
        "body.4.weight": convolution(3 * SCALE * SCALE, FEATURES),
        "body.4.bias": torch.zeros(3 * SCALE * SCALE),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path))
