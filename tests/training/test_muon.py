"""Muon and the running average against their definitions."""

from __future__ import annotations

import pytest
import torch

from talkstream.training.ema import ExponentialAverage
from talkstream.training.muon import Muon, make_optimisers, orthogonalise


def test_orthogonalise_brings_singular_values_near_one():
    for shape in ((8, 20), (20, 8)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalise(matrix))
        assert values.min() > 0.6 and values.max() < 1.3


def test_first_step_moves_by_the_learning_rate_along_the_gradient():
    weight = torch.nn.Parameter(torch.zeros(4, 4))
    gradient = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0] * 3
    weight.grad = gradient.clone()
    Muon([weight], lr=0.1).step()
    moved = torch.linalg.svdvals(weight.detach())
    assert moved.min() > 0.05 and moved.max() < 0.14
    assert (weight.detach() * gradient).sum() < 0


def test_matrices_of_one_shape_are_orthogonalised_each_by_itself():
    generator = torch.Generator().manual_seed(2)
    shapes = ((6, 4), (4, 6), (6, 4), (6, 2, 2), (6, 4))
    weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    alone = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    together = Muon(weights, lr=0.1)
    apart = [Muon([weight], lr=0.1) for weight in alone]
    for step in range(2):
        for i, (weight, other) in enumerate(zip(weights, alone, strict=True)):
            gradient = torch.randn(weight.shape, generator=generator) * 10**i
            weight.grad, other.grad = (None, None) if (step, i) == (1, 2) else (gradient, gradient.clone())
        together.step()
        for optimiser in apart:
            optimiser.step()
    for weight, other in zip(weights, alone, strict=True):
        torch.testing.assert_close(weight, other, atol=2e-3, rtol=0)
        assert weight.abs().max() > 0.02


def test_matrices_go_to_muon_and_vectors_to_adam():
    module = torch.nn.Sequential(torch.nn.Conv1d(3, 4, 5), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    muon, adam = make_optimisers(
        module, matrix_lr=0.1, other_lr=0.1, keep_adam=lambda name: name == "2.weight"
    )
    assert [tuple(p.shape) for p in muon.param_groups[0]["params"]] == [(4, 3, 5)]
    assert sum(p.numel() for p in adam.param_groups[0]["params"]) == 4 + 4 + 4 + 8 + 2


def test_average_follows_the_formula_and_gives_back_the_weights():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 0.0)
    average = ExponentialAverage(module, decay=0.9)
    expected = 0.0
    for update in range(1, 40):
        torch.nn.init.constant_(module.weight, float(update))
        average.update(module)
        decay = min(0.9, update / (update + 10))
        expected = decay * expected + (1 - decay) * update
    with average.applied_to(module):
        assert module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert module.weight.item() == 39.0
