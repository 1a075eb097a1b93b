"""Reward weighting: weights in closed form, beta from the running deviation, a reader as judge."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.tests.training.tiny_world import random_bank
from talkstream.training.data import draw_batch
from talkstream.training.latent_reader import mouths_of_latents
from talkstream.training.reward import ReaderConfidence, RewardScale, reading_errors, reward_weights


def test_weights_are_exponentials_of_mean_one():
    confidence = torch.tensor([5.0, 6.0, 8.0])
    weights = reward_weights(confidence, 2.0)
    expected = torch.exp(2 * confidence.double())
    torch.testing.assert_close(weights.double(), expected / expected.mean(), atol=1e-6, rtol=1e-6)
    assert reward_weights(torch.tensor([900.0, 901.0]), 3.0).isfinite().all()


def test_one_clip_or_no_beta_weighs_one():
    assert reward_weights(torch.tensor([7.3]), 2.0).item() == 1.0
    assert reward_weights(torch.tensor([1.0, 9.0]), 0.0).tolist() == [1.0, 1.0]


def test_beta_makes_the_deviation_one():
    """After many batches of deviation 0.4, beta is 2.5; of the first batch alone it is that batch's own."""
    scale = RewardScale()
    first = scale.update(torch.tensor([1.0, 3.0]))
    assert first == pytest.approx(1.0)
    random = np.random.default_rng(0)
    for _ in range(3000):
        beta = scale.update(torch.from_numpy(random.normal(6.0, 0.4, 16)))
    assert beta == pytest.approx(2.5, rel=0.05)


def test_equal_confidences_give_no_beta():
    scale = RewardScale()
    assert [scale.update(torch.tensor([2.0, 2.0])) for _ in range(3)] == [0.0] * 3


def test_beta_goes_on_from_its_state():
    whole, parts = RewardScale(), RewardScale()
    batches = [torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]), torch.tensor([3.0, 5.0])]
    expected = [whole.update(batch) for batch in batches]
    parts.update(batches[0])
    resumed = RewardScale()
    resumed.load_state_dict(parts.state_dict())
    assert [resumed.update(batch) for batch in batches[1:]] == expected[1:]


class Reader:
    """Says each latent's mean, four frames and three numbers alike; notes what it was shown before each."""

    def __call__(self, before, latents):
        self.before = before
        return latents.mean(dim=(1, 3, 4))[:, :, None, None].expand(-1, -1, 4, 3)


def test_a_readers_confidence_is_minus_its_error():
    batch = draw_batch(random_bank(2), np.random.default_rng(0), clips=2, latents=6)
    truth = mouths_of_latents(batch.mouth)
    latents = torch.zeros(2, 16, 3, 4, 4)
    reader = Reader()
    confidence = ReaderConfidence(reader)(latents, batch, range(3))
    torch.testing.assert_close(confidence, -truth[:, :3].square().mean(dim=(1, 2, 3)).sqrt())
    better = replace(batch, mouth=0.1 * batch.mouth)
    assert (ReaderConfidence(reader)(latents, better, range(3)) > confidence).all()


def test_the_first_latent_of_a_later_window_is_not_read():
    batch = draw_batch(random_bank(2), np.random.default_rng(0), clips=2, latents=6)
    latents = torch.randn(2, 16, 3, 4, 4)
    errors = reading_errors(Reader(), latents, batch, range(3, 6))
    assert errors[:, 0].abs().max() == 0
    expected = latents.mean(dim=(1, 3, 4))[:, 1:, None, None] - mouths_of_latents(batch.mouth)[:, 4:6]
    torch.testing.assert_close(errors[:, 1:], expected)
    assert math.isfinite(errors.sum().item())
