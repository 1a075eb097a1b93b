"""The folded codec: each convolution as the causal one it was made from, and the VAE left alone."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.causal_vae import CausalConv3d, CausalVAE, VAEConfig
from talkstream.networks.folded_codec import FoldedConv3d, fold_half


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kernel, padding", [(3, 1), ((3, 1, 1), 0), (1, 0)])
@pytest.mark.parametrize("past_frames", [0, 1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_equals_the_causal_convolution(kernel, padding, past_frames, frames):
    """In float64; zeros stand for the frames that neither the past nor the input has."""
    convolution = CausalConv3d(5, 7, kernel, padding).double()
    past = drawn(1, 5, past_frames, 4, 3) if past_frames and convolution.context else None
    x = drawn(1, 5, frames, 4, 3, seed=1)
    with torch.no_grad():
        expected = convolution(x, past)
        folded = FoldedConv3d(convolution)(x, past)
    assert folded.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(folded, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("frames", [3, 5])
def test_equals_the_convolution_that_halves_the_frames(frames):
    """A stride in time: no zeros before the frames it is given."""
    convolution = torch.nn.Conv3d(5, 7, (3, 1, 1), stride=(2, 1, 1)).double()
    x = drawn(1, 5, frames, 4, 3)
    with torch.no_grad():
        torch.testing.assert_close(FoldedConv3d(convolution)(x), convolution(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("names", [("decoder", "conv2"), ("encoder", "conv1")])
def test_the_vae_stays_as_it_is(names):
    """Another number format is a copy; every weight of the half is in it and comes from the VAE."""
    vae = CausalVAE(VAEConfig(dim=4))
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    half = fold_half(vae, names, torch.bfloat16)
    for name, tensor in vae.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])
    folded = half.state_dict()
    assert set(folded) == {name for name in before if name.startswith(tuple(f"{part}." for part in names))}
    for name, tensor in folded.items():
        assert tensor.dtype == torch.bfloat16
        expected = before[name].transpose(1, 2).flatten(1, 2) if before[name].ndim == 5 else before[name]
        assert torch.equal(tensor.float(), expected.bfloat16().float())
