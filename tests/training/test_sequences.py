"""Training sequences: which latents of a clip they hold, where they lie, what a chunk may learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.networks.cache_spec import CacheSpec
from talkstream.tests.training.tiny_world import CACHE, SIGMAS
from talkstream.training.sequences import Sequence, draw_sequence, draw_sigmas

HYBRID = CacheSpec(
    chunk=3, sink=3, history=(6, 0), sink_rule="before_window", mode="per_step", steps=4,
    sink_source="reference_then_first_generated",
)  # fmt: skip


def _drawn(spec, clip_chunks, early_share, count=200):
    random = np.random.default_rng(0)
    return [
        draw_sequence(random, spec=spec, clip_chunks=clip_chunks, early_share=early_share)
        for _ in range(count)
    ]


def test_a_sequence_learns_only_what_a_stream_would_make():
    assert Sequence((0, 1, 2), CACHE).learnable() == [True, True, True]
    assert Sequence((0, 3, 4), CACHE).learnable() == [True, False, True]
    assert Sequence((0, 3, 4), CACHE).latents() == [0, 1, 2, 9, 10, 11, 12, 13, 14]
    assert Sequence((0, 1, 2), HYBRID, sink=3).learnable() == [False, True, True]
    assert Sequence((2, 3, 4), HYBRID, sink=3).learnable() == [False, False, True]
    assert Sequence((0,), HYBRID, sink=1).learnable() == [True]


def test_the_sink_lies_before_the_window_or_where_it_was():
    assert Sequence((0, 3, 4), CACHE).positions() == [6, 7, 8, 9, 10, 11, 12, 13, 14]
    absolute = replace(CACHE, sink_rule="absolute")
    assert Sequence((0, 3, 4), absolute).positions() == [0, 1, 2, 9, 10, 11, 12, 13, 14]
    assert Sequence((0, 1), HYBRID, sink=3).positions() == [-3, -2, -1, 0, 1, 2, 3, 4, 5]
    assert Sequence((2, 3, 4), HYBRID, sink=3).positions() == [*range(3, 15)]
    one = CacheSpec(chunk=3, sink=1, history=(3,), sink_rule="before_window")
    assert Sequence((0, 3, 4), one).positions()[0] == 8
    assert Sequence((0, 1, 2), one).learnable() == [True, False, True]
    with pytest.raises(ValueError, match="use 'before_window'"):
        Sequence((0, 3, 4), replace(CACHE, sink_rule="ahead", sink_offset=5)).positions()


def test_drawn_sequences_hold_sink_history_and_chunk():
    drawn = _drawn(CACHE, 5, 0.35)
    assert {s.chunks for s in drawn} == {(0, 1, 2), (0, 2, 3), (0, 3, 4)}
    early = sum(s.chunks == (0, 1, 2) for s in drawn) / len(drawn)
    assert 0.45 < early < 0.67
    hybrid = _drawn(HYBRID, 5, 0.0)
    assert {(s.chunks, s.sink) for s in hybrid} == {((0,), 1), ((0, 1, 2), 3), ((1, 2, 3), 3), ((2, 3, 4), 3)}
    assert {s.chunks for s in _drawn(CACHE, 2, 0.5)} == {(0, 1)}


def test_numbers_of_chunks_spread_over_their_latents():
    spread = Sequence((0, 1), HYBRID, sink=2).by_latent(torch.tensor([[0.5, 0.25]]))
    assert spread.tolist() == [[0.0, 0.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]]


def test_noise_levels_keep_their_share_at_the_sampler():
    sigma = draw_sigmas(np.random.default_rng(0), (500, 3), sampling=SIGMAS[:-1], share=0.5, shift=5.0)
    exact = sum((sigma == torch.tensor(level)).sum().item() for level in SIGMAS[:-1])
    assert 0.45 < exact / 1500 < 0.55
    assert 0.0 < sigma.min() and sigma.max() <= 1.0
