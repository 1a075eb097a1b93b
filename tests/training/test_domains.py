"""Domains and mouth boxes of clips on their way from a data set to a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.tests.training.tiny_world import LATENTS, random_bank
from talkstream.training.data import draw_batch, load_bank, save_bank


def _bank():
    random = np.random.default_rng(1)
    domain = np.array([0, 1, 2, 1, 3, 0], np.int8)
    return replace(
        random_bank(6), domain=domain, place=random.random((6, 4 * LATENTS - 3, 4)).astype(np.float32)
    )


def test_a_batch_keeps_to_its_domains_and_brings_its_boxes(tmp_path):
    bank = _bank()
    save_bank(tmp_path / "bank.npz", bank)
    bank = load_bank(tmp_path / "bank.npz")
    batch = draw_batch(bank, np.random.default_rng(0), clips=40, latents=3, domains=("singing", "rare"))
    assert set(batch.domain.tolist()) == {1, 3}
    assert batch.place.shape == (40, 9, 4)
    for mouth, place, domain in zip(batch.mouth, batch.place, batch.domain, strict=True):
        clip = next(i for i in (1, 3, 4) if torch.equal(torch.from_numpy(bank.mouth[i, :9]), mouth))
        assert torch.equal(torch.from_numpy(bank.place[clip, :9]), place)
        assert bank.domain[clip] == domain
    everything = draw_batch(bank, np.random.default_rng(0), clips=60, latents=3)
    assert set(everything.domain.tolist()) == {0, 1, 2, 3}


def test_banks_of_before_give_batches_without_them(tmp_path):
    save_bank(tmp_path / "bank.npz", random_bank(2))
    batch = draw_batch(load_bank(tmp_path / "bank.npz"), np.random.default_rng(0), clips=2, latents=3)
    assert batch.domain is None and batch.place is None
    assert batch.to(torch.device("cpu")).place is None


def test_domains_that_a_bank_cannot_give_are_refused():
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="does not say which clips"):
        draw_batch(random_bank(2), random, clips=1, latents=3, domains=("singing",))
    with pytest.raises(ValueError, match="expected some of speaking"):
        draw_batch(_bank(), random, clips=1, latents=3, domains=("dancing",))
    with pytest.raises(ValueError, match="holds no clip of"):
        only = replace(_bank(), domain=np.zeros(6, np.int8))
        draw_batch(only, random, clips=1, latents=3, domains=("rare",))
