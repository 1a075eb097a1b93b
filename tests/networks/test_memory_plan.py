"""Planned bytes are measured bytes on a tiny run, and the same formulas give a 14B student's plan without weights."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.networks.kv_cache import RingKVCache, make_cache
from talkstream.networks.memory_plan import (
    CacheBytes,
    MemoryPlan,
    cache_bytes,
    decoder_bytes,
    encoder_bytes,
    placed_bytes,
    weight_bytes,
)
from talkstream.networks.multitalk_profiles import ECHOTORRENT
from talkstream.networks.profile import LIPFORCING, LIVETALK
from talkstream.networks.wan import WanConfig, WanModel
from talkstream.streaming.decoder import StreamingDecoder
from talkstream.streaming.encoder import StreamingEncoder


def sized(dim: int, ffn_dim: int, layers: int, in_dim: int = 65, text_dim: int = 4096) -> WanConfig:
    return WanConfig(dim, in_dim, ffn_dim, dim // 128, layers, text_dim, audio_in=43008)


def plan(config: WanConfig, vae: CausalVAE, profile, *, height: int, width: int, itemsize: int) -> MemoryPlan:
    """The plan of a run, from modules that may lie on the meta device."""
    with torch.device("meta"):
        network = WanModel(config)
    latent = {"latent_height": height, "latent_width": width, "itemsize": itemsize}
    return MemoryPlan(
        weights=weight_bytes(network, itemsize=itemsize),
        cache=cache_bytes(profile.cache_spec, layers=config.num_layers, dim=config.dim, **latent),
        decoder=decoder_bytes(vae, **latent),
    )


@pytest.mark.parametrize("profile", [LIVETALK, LIPFORCING], ids=lambda profile: profile.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tiny_run_holds_what_was_planned(profile, dtype):
    config, vae = sized(256, 64, 4, text_dim=16), CausalVAE(VAEConfig(dim=8)).to(dtype)
    planned = plan(config, vae, profile, height=4, width=6, itemsize=dtype.itemsize)
    network = WanModel(config, dtype=dtype)
    cache = RingKVCache(
        profile.cache_spec, layers=4, dim=256, heads=2, grid=(2, 3), dtype=dtype, device="cpu"
    )
    decoder = StreamingDecoder(vae)
    decoder.decode(torch.randn(1, 16, 3, 4, 6))
    measured = MemoryPlan(
        sum(p.untyped_storage().nbytes() for p in network.parameters()), cache.size_bytes, decoder.size_bytes
    )
    for part in ("weights", "cache", "decoder"):
        assert getattr(planned, part) == pytest.approx(getattr(measured, part), rel=0.02), part
    assert planned.total == pytest.approx(measured.total, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_encoder_carries_what_was_planned(dtype):
    """Of which a lip-sync stream has two."""
    vae = CausalVAE(VAEConfig(dim=8)).to(dtype)
    planned = encoder_bytes(vae, height=32, width=48, itemsize=dtype.itemsize)
    encoder = StreamingEncoder(vae)
    encoder.encode(torch.randn(1, 3, 13, 32, 48))
    assert planned == pytest.approx(encoder.size_bytes, rel=0.02)


@pytest.mark.parametrize("in_main_memory", [False, True])
@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize("profile", [LIVETALK, ECHOTORRENT], ids=lambda profile: profile.name)
def test_a_placed_cache_has_the_planned_bytes(profile, eight_bit, in_main_memory):
    """Exactly, on the device and away from it."""
    sizes, how = {"layers": 3, "dim": 24, "heads": 2}, {"eight_bit": eight_bit}
    planned = placed_bytes(
        profile.cache_spec, **sizes, **how, tokens=2, itemsize=2, in_main_memory=in_main_memory
    )
    home = "cpu" if in_main_memory else None
    cache = make_cache(profile.cache_spec, **sizes, **how, grid=(1, 2), dtype=torch.bfloat16, home=home)
    if isinstance(cache, RingKVCache):
        measured = CacheBytes(cache.size_bytes)
    elif in_main_memory:
        measured = CacheBytes(cache.stage_bytes, cache.kept_bytes)
    else:
        measured = CacheBytes(cache.stage_bytes + cache.kept_bytes)
    assert planned == measured


def test_echotorrent_at_the_published_size():
    """14B at 400x720 in bf16: 22.3 GiB on the device, or 0.7 and 21.5 in main memory; in 8 bit half."""
    sizes = {"layers": 40, "dim": 5120, "heads": 40, "tokens": 25 * 45, "itemsize": 2}

    def gib(**how: bool) -> tuple[float, float]:
        placed = placed_bytes(ECHOTORRENT.cache_spec, **sizes, **how)
        return round(placed.device / 2**30, 1), round(placed.main_memory / 2**30, 1)

    assert gib() == (22.3, 0.0)
    assert gib(eight_bit=True) == (11.8, 0.0)
    assert gib(in_main_memory=True) == (0.7, 21.5)
    assert gib(in_main_memory=True, eight_bit=True) == (0.7, 11.5)


def test_a_14b_student_is_planned_without_weights():
    """14.294 billion parameters in bf16; a window of 7 latents of 1024 tokens, 40 layers; the full VAE at 512x512."""
    with torch.device("meta"):
        vae = CausalVAE(VAEConfig(dim=96))
    planned = plan(sized(5120, 13824, 40), vae, LIPFORCING, height=64, width=64, itemsize=2)
    assert planned.weights == pytest.approx(2 * 14.294e9, rel=0.001)
    copies = 2 * 7 + 1  # keys and values of the window, and the roped copy of the one sink latent
    assert planned.cache == 2 * 5120 * 1024 * 40 * copies
    assert planned.decoder == 2 * 151_328 * 64 * 64
    assert str(planned) == "memory 36.12 GB: weights 28.59 + KV cache 6.29 + VAE cache 1.24"
