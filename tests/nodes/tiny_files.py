"""Model files small enough for a test, of the true key layout, filled with random numbers."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.networks.wan import WanConfig, WanModel

LIVETALK_AUDIO_IN = 43008  # four frames of 14 layers of 768


def livetalk_config(*, layers: int = 4, text_dim: int = 4096) -> WanConfig:
    """LiveTalk's inputs and text width in front of a network of two heads."""
    return WanConfig(
        dim=256,
        in_dim=33,
        ffn_dim=512,
        num_heads=2,
        num_layers=layers,
        text_dim=text_dim,
        audio_in=LIVETALK_AUDIO_IN,
    )


def random_network(config: WanConfig, *, seed: int = 7) -> WanModel:
    """A frozen float32 network whose audio path and head are not zero."""
    generator = torch.Generator().manual_seed(seed)
    network = WanModel(config)
    network.initialize(generator)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(("head.head", "audio_cond_projs")):
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def write_livetalk(path: Path, **sizes: int) -> WanModel:
    """A LiveTalk checkpoint of its true names at `path`; returns the network in it."""
    network = random_network(livetalk_config(**sizes))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), str(path))
    return network


def write_vae(path: Path, *, dim: int = 8, seed: int = 11) -> CausalVAE:
    """A VAE with the module tree of Wan 2.1's, `dim` wide (the published one: 96)."""
    torch.manual_seed(seed)
    vae = CausalVAE(VAEConfig(dim=dim)).eval().requires_grad_(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(vae.state_dict(), str(path))
    return vae


def write_wav2vec2(path: Path, *, seed: int = 13) -> None:
    """A wav2vec2-base with random weights in half precision: the smallest that core's loader knows (190 MB)."""
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = Wav2Vec2Model(
            embed_dim=768, num_heads=12, num_layers=12, conv_norm=False, conv_bias=False,
            do_normalize=False, do_stable_layer_norm=False, operations=nn,
        )  # fmt: skip
    tensors = {}
    for name, parameter in model.state_dict().items():
        if parameter.ndim == 1:
            tensors[name] = torch.full(parameter.shape, float("norm" in name and name.endswith("weight")))
        else:
            tensors[name] = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, str(path))
