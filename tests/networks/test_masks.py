"""One masked forward over a clip equals a stream on the growing cache that holds the same noisy latents."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.kv_cache import CLEAN_PASS, CacheSpec, GrowingKVCache
from talkstream.networks.masks import chunk_causal_mask, chunk_causal_masks
from talkstream.networks.wan import WanConfig, WanModel

CONFIG = WanConfig(
    dim=32, in_dim=20, ffn_dim=48, num_heads=2, num_layers=4, text_dim=8, audio_in=16, audio_hidden=8
)
SPECS = {
    "clean": CacheSpec(chunk=2, sink=2, history=(2,)),
    "clean by layer": CacheSpec(chunk=2, sink=3, history=(4, 0)),
    "step": CacheSpec(chunk=2, sink=2, history=(6, 0), sink_rule="before_window", mode="per_step", steps=3),
    "step, reference": CacheSpec(
        chunk=2, sink=2, history=(6, 0), sink_rule="before_window", sink_source="reference", mode="per_step",
        steps=3,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> WanModel:
    network = WanModel(CONFIG)
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.5 * noise / (parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1.0)
    return network.requires_grad_(False)


def _inputs(latents):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(1, 20, latents, 4, 4, generator=generator)
    return x, torch.randn(1, latents, 8, generator=generator), torch.randn(1, 3, 8, generator=generator)


def _streamed(model, spec, x, audio, text, level, sink):
    """Chunk after chunk, each chunk's keys kept as they were at this noise level."""
    cache = GrowingKVCache(spec, layers=4, dim=32, heads=2, grid=(2, 2))

    def call(places, timestep):
        return model(
            x[:, :, places], timestep_BT=torch.full((1, 1), timestep), text_BMD=text,
            audio_tokens_BTE=audio[:, places], cache=cache,
        )  # fmt: skip

    if sink:
        cache.begin_sink(sink)
        call(slice(0, sink), 0.0)
        cache.end_sink()
    outputs = []
    for first in range(sink, x.shape[2], spec.chunk):
        places = slice(first, first + spec.chunk)
        cache.begin_chunk(spec.chunk)
        cache.begin_pass(1 if spec.mode == "per_step" else CLEAN_PASS)
        outputs.append(call(places, level))
        cache.end_chunk()
    return torch.cat(outputs, dim=2)


@pytest.mark.parametrize("name", SPECS)
def test_a_masked_clip_is_a_stream_at_one_level(model, name):
    """Four chunks: with history for layers that have it, and as far as the sink's place is the same for all."""
    spec = SPECS[name]
    sink = 0 if spec.sink_source == "first_latents" else spec.sink
    x, audio, text = _inputs(sink + 8)
    levels = torch.full((1, sink + 8), 700.0)
    levels[:, :sink] = 0.0
    whole = model(
        x, timestep_BT=levels, text_BMD=text, audio_tokens_BTE=audio,
        attention_mask_LL=chunk_causal_masks(spec, 8, 4, sink=sink),
    )[:, :, sink:]  # fmt: skip
    streamed = _streamed(model, spec, x, audio, text, 700.0, sink)
    torch.testing.assert_close(whole, streamed, rtol=0, atol=2e-5)
    free = model(x, timestep_BT=levels, text_BMD=text, audio_tokens_BTE=audio)[:, :, sink:]
    assert (whole - free).abs().max() > 1e-2


def test_rows_of_a_small_mask():
    """Sink in front sees itself; even layers see two latents of history, odd ones none; all see the sink."""
    spec = CacheSpec(chunk=1, sink=1, history=(2, 0), sink_source="reference", mode="per_step", steps=2)
    even, odd = chunk_causal_masks(spec, 4, 1, sink=1)
    assert even.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 0, 1, 1, 1],
    ]
    assert odd.int().tolist() == [[1] + [int(i == j) for j in range(1, 5)] for i in range(5)]


def test_what_cannot_be_one_mask_is_named():
    with pytest.raises(ValueError, match="5 latents are not whole chunks of 2"):
        chunk_causal_mask(SPECS["clean"], 5, 4)
    with pytest.raises(ValueError, match="got 2 sink latents before the clip"):
        chunk_causal_mask(SPECS["clean"], 4, 4, sink=2)
    with pytest.raises(ValueError, match="holds 2"):
        chunk_causal_mask(SPECS["step, reference"], 4, 4, sink=3)
