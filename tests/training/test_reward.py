"""Reward weighting: weights in closed form, beta from the running deviation, a reader as judge."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.tests.training.tiny_world import SPEECH, random_bank
from talkstream.training.data import draw_batch
from talkstream.training.latent_reader import mouths_of_latents
from talkstream.training.reward import (
    ReaderConfidence,
    RewardScale,
    SyncConfidence,
    mean_reading_error,
    reading_errors,
    reward_weights,
)
from talkstream.training.sync_reward import SyncReward
from talkstream.training.syncnet import SyncNet, SyncNetConfig


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


def test_a_later_window_is_a_clip_of_its_own_for_the_sync_teacher():
    """Latent 5's last frame is frame 20: speech and boxes begin there, and the first latent is not scored."""
    batch = draw_batch(random_bank(2), np.random.default_rng(0), clips=2, latents=9)
    batch = replace(batch, place=torch.rand(2, 33, 4))
    seen = []

    def reward(latents, heard, *, first_latent=0):
        seen.append((heard.mel, heard.place, first_latent))
        return latents.mean(dim=(1, 2, 3, 4))

    latents = torch.randn(2, 16, 4, 4, 4)
    for places in (range(4), range(5, 9)):
        confidence = SyncConfidence(reward)(latents, batch, places)
        assert torch.equal(confidence, latents.mean(dim=(1, 2, 3, 4)))
    (mel, place, first), (later_mel, later_place, later_first) = seen
    assert torch.equal(mel, batch.mel) and torch.equal(place, batch.place) and first == 0
    assert torch.equal(later_mel, batch.mel[:, 80:]) and torch.equal(later_place, batch.place[:, 20:])
    assert later_first == 1


def test_the_sync_teacher_judges_windows_anywhere():
    """With a codec and a SyncNet of random weights: a finite Sync-C of every clip, other speech gives another."""
    generator = torch.Generator().manual_seed(0)
    config = SyncNetConfig(bins=SPEECH.bins, lips=(4, 4, 4), frame=8, speech=(8, 8), width=8)
    reward = SyncReward(SyncNet(config).eval(), CausalVAE(VAEConfig(dim=4)).eval())
    batch = draw_batch(random_bank(2), np.random.default_rng(0), clips=2, latents=9)
    latents = torch.randn(2, 16, 4, 4, 4, generator=generator)
    found = SyncConfidence(reward)(latents, batch, range(5, 9))
    other = SyncConfidence(reward)(latents, replace(batch, mel=1 - batch.mel), range(5, 9))
    assert found.shape == (2,) and found.isfinite().all() and (found - other).abs().min() > 0


def test_the_first_latent_of_a_later_window_is_not_read():
    batch = draw_batch(random_bank(2), np.random.default_rng(0), clips=2, latents=6)
    latents = torch.randn(2, 16, 3, 4, 4)
    errors = reading_errors(Reader(), latents, batch, range(3, 6))
    assert errors[:, 0].abs().max() == 0
    expected = latents.mean(dim=(1, 3, 4))[:, 1:, None, None] - mouths_of_latents(batch.mouth)[:, 4:6]
    torch.testing.assert_close(errors[:, 1:], expected)
    assert math.isfinite(errors.sum().item())


def test_latents_that_count_and_follow_their_neighbour_are_read():
    """Places 0 1 | 4 5: 0 and 4 have no neighbour before them; of the rest the second clip's 5 does not count."""
    batch = draw_batch(random_bank(2), np.random.default_rng(0), clips=2, latents=6)
    latents = torch.randn(2, 16, 4, 4, 4, requires_grad=True)
    counts = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 0]])
    places = (0, 1, 4, 5)
    error = latents.mean(dim=(1, 3, 4))[..., None, None] - mouths_of_latents(batch.mouth)[:, list(places)]
    expected = torch.stack([error[0, 1], error[0, 3], error[1, 1]]).square().mean()
    found = mean_reading_error(Reader(), latents, batch, places, counts)
    torch.testing.assert_close(found, expected)
    for gradient in (torch.autograd.grad(x, latents, retain_graph=True)[0] for x in (found, expected)):
        assert gradient[:, :, [0, 2]].abs().max() == 0 and gradient[:, :, 1].abs().max() > 0
    nothing = mean_reading_error(Reader(), latents, batch, places, torch.zeros(2, 4))
    assert nothing.item() == 0
