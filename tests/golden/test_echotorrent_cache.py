"""The cache under EchoTorrent's rules: the visible latents and positions recorded by the naive oracle's golden."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from talkstream.networks.kv_cache import CacheSpec, RingKVCache
from talkstream.tests.networks.cache_runner import Runner, make

ROLES = {"sink": 0, "history": 1, "current": 2}
VARIANTS = ("hybrid", "full_causal", "full_bidirectional", "no_sink", "sink4", "two_step")


@pytest.fixture(scope="module")
def golden(golden_file):
    """The file's description and its lists of visible latents."""
    with safe_open(golden_file("echotorrent_tiny.safetensors"), "pt") as file:
        meta = json.loads(file.metadata()["meta"])
        visible = {key: file.get_tensor(key) for key in file.keys() if ".visible_" in key}  # noqa: SIM118
    return meta, visible


def spec_of(meta, variant) -> CacheSpec:
    settings, stream = meta["variants"][variant], meta["stream"]
    return CacheSpec(
        chunk=stream["chunk_latents"],
        sink=settings["sink_latents"],
        history=tuple(settings["history"] if kind == "causal" else 0 for kind in settings["kinds"]),
        sink_rule=stream["sink_position"],
        sink_source=stream["sink_source"],
        mode=stream["cache"],
        steps=len(settings["sigma_entries"]),
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_visible_latents_and_positions(golden, variant):
    """The oracle lists what the golden lists, and the ring attends to exactly that."""
    meta, visible = golden
    kinds = meta["variants"][variant]["kinds"]
    runner = Runner(make(RingKVCache, spec_of(meta, variant), layers=len(kinds)), layers=len(kinds))
    compared = 0
    for chunk in range(meta["stream"]["chunks"]):
        runner.prepare_sink(chunk)
        first = runner.cache.next_latent
        for layer, kind in enumerate(kinds):
            listed = runner.oracle.visible(layer, list(range(first, first + runner.spec.chunk)))
            rows = [
                (-1 if role == "sink" and chunk == 0 else latent, at, ROLES[role])
                for role, latent, at in listed
            ]
            expected = visible[f"{variant}.chunk{chunk}.visible_{kind}"]
            assert torch.equal(torch.tensor(rows).T, expected)
            compared += 1
        runner.run_chunk(chunk, sink_is_ready=True)
    assert compared == meta["stream"]["chunks"] * len(kinds)
    assert runner.worst < 1e-10
