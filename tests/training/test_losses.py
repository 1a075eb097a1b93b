"""Each loss: value and gradient against its formula."""

from __future__ import annotations

import math

import torch

from talkstream.training.losses import (
    critic_loss,
    dmd_gradient,
    edge_loss,
    gradient_loss,
    psnr,
    weighted_charbonnier,
    weighted_mse,
)


def _pair(*shape):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    return output, torch.randn(shape, generator=generator, dtype=torch.float64)


def test_weighted_mse_gradient():
    output, target = _pair(2, 3, 4)
    weight = torch.rand(2, 1, 4, dtype=torch.float64)
    weighted_mse(output, target, weight).backward()
    full = weight.expand(2, 3, 4)
    torch.testing.assert_close(output.grad, 2 * full * (output.detach() - target) / full.sum())


def test_weighted_mse_of_no_weight_is_zero():
    output, target = _pair(2, 3)
    assert weighted_mse(output, target, torch.zeros(2, 3, dtype=torch.float64)).item() == 0.0


def test_charbonnier_gradient():
    output, target = _pair(2, 5)
    weight = torch.rand(2, 5, dtype=torch.float64)
    weighted_charbonnier(output, target, weight).backward()
    gap = output.detach() - target
    torch.testing.assert_close(output.grad, weight * gap / (gap**2 + 1e-6).sqrt() / 10)


def test_edge_loss_ignores_constants_and_counts_steps():
    picture = torch.zeros(1, 1, 1, 4, 4)
    weight = torch.ones(1, 1, 1, 4, 4)
    assert edge_loss(picture + 0.7, picture, weight).item() == 0.0
    step = picture.clone()
    step[..., 2:] = 1.0
    # one of three column steps differs by 1, no row step does
    assert math.isclose(edge_loss(step, picture, weight).item(), 1 / 3, rel_tol=1e-6)


def test_gradient_loss_has_exactly_the_given_gradient():
    """Value 0.5 mean gradient^2, gradient over the scored elements of its sample."""
    output, given = _pair(3, 4)
    scored = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    losses = gradient_loss(output, given, scored)
    torch.testing.assert_close(losses, 0.5 * (given.square() * scored).sum(1) / 3)
    losses.sum().backward()
    torch.testing.assert_close(output.grad, given * scored / 3)


def test_dmd_gradient_follows_its_formula_per_sample():
    """(fake - real) / mean |x - real|, the mean and the gradient only over what is scored."""
    current, real = _pair(2, 3, 4)
    fake = torch.randn(2, 3, 4, dtype=torch.float64)
    scored = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)[:, None]
    gradient = dmd_gradient(current.detach(), real, fake, scored)
    for i in range(2):
        scale = (current[i] - real[i]).abs()[[0, 2]].mean() + 1e-6
        torch.testing.assert_close(gradient[i, [0, 2]], ((fake[i] - real[i]) / scale)[[0, 2]])
    assert gradient[:, 1].abs().max() == 0


def test_critic_loss_is_the_flow_loss_of_the_velocity():
    """Through x0 = x - sigma v: mean |v - (noise - x)|^2, gradient 2 (v - target) / scored elements."""
    velocity, made = _pair(2, 3)
    noise, sigma = torch.randn(2, 3, dtype=torch.float64), torch.tensor([[0.2], [0.9]], dtype=torch.float64)
    noisy = (1 - sigma) * made + sigma * noise
    scored = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    loss = critic_loss(noisy - sigma * velocity, made, sigma, scored)
    gap = velocity - (noise - made)
    torch.testing.assert_close(loss, (gap.square() * scored).sum() / 4)
    loss.backward()
    torch.testing.assert_close(velocity.grad, 2 * gap.detach() * scored / 4)


def test_psnr_of_a_known_error():
    picture = torch.zeros(1, 3, 2, 2)
    assert math.isclose(psnr(picture + 0.2, picture), 20.0, abs_tol=1e-4)
