"""Bidirectional predictions of a window: the algebra of guidance, the clamped portrait, silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkstream.tests.training.tiny_world import random_bank, random_student
from talkstream.training.data import draw_batch
from talkstream.training.prediction import Predictions, predict_both, predict_x0

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

SIGMA = torch.tensor([0.3, 0.9])


def _batch():
    return draw_batch(random_bank(3), np.random.default_rng(1), clips=2, latents=9)


def test_guidance_mixes_the_two_predictions():
    heard, deaf = torch.full((1, 2), 3.0), torch.full((1, 2), 1.0)
    assert torch.equal(Predictions(heard, deaf).guided(4.5), torch.full((1, 2), 10.0))
    assert torch.equal(Predictions(heard, deaf).guided(1.0), heard)


@torch.no_grad()
def test_a_window_from_the_start_is_given_its_portrait():
    student, batch = random_student(), _batch()
    noisy = torch.randn(2, 16, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    first = predict_x0(student, noisy, SIGMA, batch, range(6))
    assert torch.equal(first[:, :, :1], batch.condition.reference_BC1HW)
    other = noisy.clone()
    other[:, :, 0] += 1.0
    assert torch.equal(predict_x0(student, other, SIGMA, batch, range(6)), first)


@torch.no_grad()
def test_a_later_window_is_made_whole_and_hears_its_own_latents():
    student, batch = random_student(), _batch()
    noisy = torch.randn(2, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    early, late = (predict_x0(student, noisy, SIGMA, batch, range(at, at + 3)) for at in (3, 6))
    assert (early - late).abs().amax(dim=(1, 3, 4)).min() > 0
    both = predict_both(student, noisy, SIGMA, batch, range(3, 6))
    assert torch.equal(both.conditional, early)
    deaf = [predict_x0(student, noisy, SIGMA, batch, range(at, at + 3), hears=False) for at in (3, 6)]
    assert torch.equal(deaf[0], deaf[1])
    assert torch.equal(both.null, deaf[0])
