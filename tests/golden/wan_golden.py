"""Shared by the network goldens: read a file, build its network, run a stream with recorded noise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from talkstream.networks.attention import prepare_text
from talkstream.networks.kv_cache import CLEAN_PASS, CacheSpec, RingKVCache
from talkstream.networks.ops import sdpa_attention
from talkstream.networks.wan import WanConfig, WanModel


class Golden:
    """A golden file: tensors by name, in float32, and its config."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self.config = json.loads(file.metadata()["config"])
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

    def __getitem__(self, key: str) -> Tensor:
        tensor = self.tensors[key]
        return tensor.float() if tensor.is_floating_point() else tensor

    def names(self, prefix: str) -> Iterator[str]:
        return (key for key in sorted(self.tensors) if key.startswith(prefix))

    def state(self, prefix: str = "sd.") -> dict[str, Tensor]:
        return {key.removeprefix(prefix): self[key] for key in self.names(prefix)}


def build(golden: Golden) -> WanModel:
    """The network of a golden, its sizes read from its tensors."""
    state, config = golden.state(), golden.config
    patch = state["patch_embedding.weight"]
    layers = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    model = WanModel(
        WanConfig(
            dim=patch.shape[0],
            in_dim=patch.shape[1],
            patch=tuple(patch.shape[2:]),
            ffn_dim=state["blocks.0.ffn.0.weight"].shape[0],
            num_heads=config["num_heads"],
            num_layers=layers,
            text_dim=state["text_embedding.0.weight"].shape[1],
            freq_dim=state["time_embedding.0.weight"].shape[1],
            out_dim=state["head.head.weight"].shape[0] // patch[0, 0].numel(),
            eps=config.get("eps", 1e-6),
            audio_in=state["audio_proj.proj.weight"].shape[1],
            audio_hidden=state["audio_proj.proj.weight"].shape[0],
        )
    )
    model.load_state_dict(state, strict=True)
    return model.requires_grad_(False)


class Stream:
    """A network with its cache, text and conditioning; chunk after chunk as a session drives it."""

    def __init__(
        self,
        model: WanModel,
        spec: CacheSpec,
        *,
        size: tuple[int, int],
        text_BMD: Tensor,
        channels_BCTHW: Tensor,
        audio_BTE: Tensor,
        cache_type: type = RingKVCache,
    ) -> None:
        self.model, self.spec = model, spec
        self.text = prepare_text(model, text_BMD)
        self.channels, self.audio = channels_BCTHW, audio_BTE
        _, height, width = model.patch_size
        grid = (size[0] // height, size[1] // width)
        self.cache = cache_type(
            spec,
            layers=len(model.blocks),
            dim=model.dim,
            heads=model.num_heads,
            grid=grid,
            dtype=torch.float32,
        )

    def velocity(
        self, x_BCTHW: Tensor, timestep: float | Tensor, step: int, attention: Callable = sdpa_attention
    ) -> Tensor:
        """One pass over the running chunk; x: the noisy channels alone."""
        self.cache.begin_pass(step)
        part = slice(self.cache.positions()[0], self.cache.positions()[-1] + 1)
        timesteps = timestep if isinstance(timestep, Tensor) else torch.full((1, 1), timestep)
        return self.model(
            torch.cat([x_BCTHW, self.channels[:, :, part]], dim=1),
            timestep_BT=timesteps,
            text_BMD=self.text,
            audio_tokens_BTE=self.audio[:, part],
            cache=self.cache,
            attention=attention,
        )

    def clean(self, x0_BCTHW: Tensor, timestep: float = 0.0, **options) -> Tensor:
        """The pass that writes the finished chunk."""
        return self.velocity(x0_BCTHW, timestep, CLEAN_PASS, **options)


class Recorder:
    """Attention that keeps what it was given, in order: self- and cross-attention of layer 0, 1, ..."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
        self.calls.append((k.clone(), v.clone()))
        return sdpa_attention(q, k, v, heads, mask)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
