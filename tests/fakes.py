"""Tiny random checkpoints with the true names of published files, for tests that need a file and no quality.

Every writer returns the path. Values come from a generator of the given seed, scaled so that activations
stay of order one.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from . import layouts

_ONES = (
    ".gamma",
    "norm.weight",
    "norm_q.weight",
    "norm_k.weight",
    "norm3.weight",
    "norm_out.weight",
    "original0",
)
_SMALL = (".modulation", ".bias", "masked_spec_embed")


SHARDS = 4


def random_tensors(
    layout: layouts.Layout,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """Random values for every name of a layout, drawn on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    tensors = {}
    for name, shape in layout.items():
        values = torch.randn(shape, generator=generator, device=device)
        if name.endswith(_ONES):
            values = 1 + 0.05 * values
        elif name.endswith(_SMALL):
            values = 0.05 * values
        else:
            values = values / math.sqrt(math.prod(shape[1:]))
        tensors[name] = values.to(dtype)
    return tensors


def write_layout(
    path: str | Path,
    layout: layouts.Layout,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write random tensors of a layout as safetensors."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(random_tensors(layout, seed=seed, dtype=dtype), str(path), metadata=metadata)
    return path


def write_tiny_audiopack(
    path: str | Path,
    *,
    dim: int = 128,
    layers: int = 6,
    in_dim: int = 33,
    ffn_dim: int = 256,
    audio_in: int = layouts.WAV2VEC2_AUDIO_IN,
    text_dim: int = 4096,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    profile: dict | None = None,
    prefix: str = "",
) -> Path:
    """A student with LiveTalk's names (33 channels) or Lip Forcing's (65), about 12 MB at the default width.

    dim is a multiple of 128 (ComfyUI takes the number of heads as dim / 128). text_dim stays 4096 where
    ComfyUI loads the file: it cannot read another width from the tensors. profile is written into the
    metadata as the file's own profile; prefix goes before every name.
    """
    layout = layouts.student(
        dim=dim, ffn_dim=ffn_dim, layers=layers, in_dim=in_dim, text_dim=text_dim, audio_in=audio_in
    )
    metadata = None if profile is None else {"talkstream_profile": json.dumps(profile)}
    named = {prefix + name: shape for name, shape in layout.items()}
    return write_layout(path, named, seed=seed, dtype=dtype, metadata=metadata)


def write_tiny_wan_vae(
    path: str | Path, *, dim: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Path:
    """A Wan 2.1 VAE that ComfyUI's Load VAE accepts: 16 latent channels, narrow inside, 3 MB at width 8."""
    return write_layout(path, layouts.wan_vae(dim=dim), seed=seed, dtype=dtype)


def write_wav2vec2(path: str | Path, *, seed: int = 0, dtype: torch.dtype = torch.float16) -> Path:
    """A random wav2vec2-base that ComfyUI's Load Audio Encoder accepts, 189 MB in float16.

    The host knows 768 channels with 12 layers and 1024 with 24, and nothing smaller.
    """
    return write_layout(path, layouts.wav2vec2_base(), seed=seed, dtype=dtype)


def write_sharded(tensors: dict[str, Tensor], folder: Path, stem: str) -> Path:
    """Shards and their index as diffusers writes them; returns the index."""
    folder.mkdir(parents=True, exist_ok=True)
    where = {}
    for i in range(SHARDS):
        name = f"{stem}-{i + 1:05d}-of-{SHARDS:05d}.safetensors"
        part = dict(list(tensors.items())[i::SHARDS])
        save_file(part, folder / name)
        where |= dict.fromkeys(part, name)
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index
