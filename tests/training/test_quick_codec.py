"""The codec laid out for training on CPUs: same names, same pictures, same gradients."""

from __future__ import annotations

import copy

import pytest
import torch

from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.training.codec_init import initialise_codec
from talkstream.training.quick_codec import quicken


def _pair():
    vae = CausalVAE(VAEConfig(dim=4))
    generator = torch.Generator().manual_seed(0)
    initialise_codec(vae, generator)
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name.endswith("gamma"):
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    quick = copy.deepcopy(vae)
    quicken(quick)
    return vae, quick


def _pixels(batch, frames, side):
    return torch.rand((batch, 3, frames, side, side), generator=torch.Generator().manual_seed(1)) * 2 - 1


def _loss(vae, pixels, *, bf16):
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = vae.decode(vae.encode(pixels)).float()
    loss = (output - pixels).square().mean()
    vae.zero_grad()
    loss.backward()
    return output.detach(), {name: parameter.grad for name, parameter in vae.named_parameters()}


@pytest.mark.parametrize("shape", [(2, 9, 24), (1, 5, 32)])
def test_pictures_and_gradients_are_the_plain_codecs(shape):
    vae, quick = _pair()
    pixels = _pixels(*shape)
    (output, plain), (same, gradients) = (_loss(each, pixels, bf16=False) for each in (vae, quick))
    torch.testing.assert_close(same, output, rtol=0, atol=1e-4)
    assert plain.keys() == gradients.keys()
    for name, wanted in plain.items():
        assert _distance(gradients[name], wanted) < 1e-3, name


def test_in_bfloat16_gradients_are_as_exact_as_the_plain_codecs():
    vae, quick = _pair()
    pixels = _pixels(1, 9, 24)
    _, exact = _loss(vae, pixels, bf16=False)
    (_, plain), (_, gradients) = (_loss(each, pixels, bf16=True) for each in (vae, quick))
    errors = [
        (_distance(gradients[name], exact[name]), _distance(plain[name], exact[name])) for name in exact
    ]
    assert sum(own for own, _ in errors) < 1.3 * sum(other for _, other in errors)
    assert max(own for own, _ in errors) < 1.5 * max(other for _, other in errors)


def _distance(gradient, wanted):
    return ((gradient - wanted).norm() / wanted.norm().clamp_min(1e-8)).item()


def test_more_rows_than_one_piece_give_the_same():
    """Two pieces and a rest: 3 x 48 x 48 x 21 positions of 4 channels at full resolution."""
    vae, quick = _pair()
    x = torch.randn((3, 4, 21, 48, 48), generator=torch.Generator().manual_seed(2))
    norm, activation = vae.decoder.head[0], vae.decoder.head[1]
    torch.testing.assert_close(quick.decoder.head[0](x), activation(norm(x)), rtol=1e-5, atol=1e-6)


def test_names_and_values_stay_and_zeros_give_zeros():
    vae, quick = _pair()
    wanted, got = vae.state_dict(), quick.state_dict()
    assert list(wanted) == list(got)
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    zeros = torch.zeros(1, 4, 2, 8, 8)
    assert torch.equal(quick.decoder.head[1](quick.decoder.head[0](zeros)), zeros)
