"""Packing of speech vectors, and which layers hear them."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.audio_pack import AudioPack, injected_layers, pack_vectors


def test_packing_is_time_major_with_copies_in_front():
    """Vector k = (10 k, 10 k + 1): latent 0 hears vector 0 four times, latent f hears 4 f - 3 .. 4 f."""
    vectors = torch.stack([10.0 * torch.arange(9), 10.0 * torch.arange(9) + 1], dim=-1)[None]
    packed = pack_vectors(vectors, prefix_copies=3)[0]
    assert packed[0].tolist() == [0, 1] * 4
    assert packed[1].tolist() == [10, 11, 20, 21, 30, 31, 40, 41]
    assert packed[2].tolist() == [50, 51, 60, 61, 70, 71, 80, 81]
    assert torch.equal(pack_vectors(vectors[:, 1:], prefix_copies=0)[0], packed[1:])


def test_incomplete_latents_are_named():
    with pytest.raises(ValueError, match="8 audio vectors|multiple of 4"):
        pack_vectors(torch.zeros(1, 6, 2), prefix_copies=3)


@pytest.mark.parametrize(
    ("layers", "first", "last", "count"), [(30, 2, 15, 14), (40, 2, 20, 19), (6, 2, 3, 2)]
)
def test_layers_that_hear(layers, first, last, count):
    heard = injected_layers(layers)
    assert (heard[0], heard[-1], len(heard)) == (first, last, count)


def test_module_is_linear_then_layer_norm():
    module = AudioPack(8, 4)
    packed = torch.randn(1, 3, 8)
    linear = packed @ module.proj.weight.T + module.proj.bias
    mean, variance = linear.mean(-1, keepdim=True), linear.var(-1, keepdim=True, unbiased=False)
    torch.testing.assert_close(module(packed), (linear - mean) / (variance + 1e-5).sqrt(), rtol=0, atol=1e-5)
