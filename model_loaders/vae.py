"""A Wan 2.1 shaped VAE file to our own codec, for runs without ComfyUI."""

from __future__ import annotations

from pathlib import Path

import torch

from ..networks.causal_vae import CausalVAE, VAEConfig
from .accounting import account
from .checkpoint import read_checkpoint

_WIDTH_KEY = "decoder.head.0.gamma"


def open_vae(path: str | Path, *, dtype: torch.dtype = torch.float32) -> CausalVAE:
    """Load a VAE, its width read from its tensors; frozen, in eval mode, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut off, no Wan 2.1 VAE, or tensors are missing or unknown.
    """
    checkpoint = read_checkpoint(path)
    shapes = checkpoint.shapes
    if _WIDTH_KEY not in shapes:
        raise ValueError(f"{path} has no {_WIDTH_KEY}: it is not a Wan 2.1 VAE; give the VAE of the student")
    with torch.device("meta"):
        vae = CausalVAE(VAEConfig(dim=shapes[_WIDTH_KEY][0]))
    report = account(shapes, {name: tuple(tensor.shape) for name, tensor in vae.state_dict().items()})
    if not report.complete:
        raise ValueError(f"{path}: VAE {report.sentence()}")
    tensors = checkpoint.load(shapes)
    vae.load_state_dict({name: tensor.to(dtype) for name, tensor in tensors.items()}, assign=True)
    return vae.eval().requires_grad_(False)
