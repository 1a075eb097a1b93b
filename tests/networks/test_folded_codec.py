"""The folded codec: each convolution as the causal one it was made from, and the VAE left alone."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.causal_vae import CausalConv3d, CausalVAE, RMSNorm, VAEConfig
from talkstream.networks.folded_codec import FoldedConv3d, FoldedRMSNorm, fold_half, onednn_computes


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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [3, 5])
def test_onednn_computes_what_frames_do(stride, frames):
    """float32, which oneDNN takes, against float64, which it does not."""
    assert not onednn_computes(torch.float64)
    convolution = torch.nn.Conv3d(5, 7, 3, stride=(stride, 1, 1), padding=(0, 1, 1)).double()
    x = drawn(1, 5, frames, 8, 6)
    expected = FoldedConv3d(convolution)(x)
    single = FoldedConv3d(convolution).float()(x.float())
    assert single.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_equals_the_norm(spatial_dims):
    """In float64, with gains of their own; a position without any signal stays zero."""
    norm = RMSNorm(6, spatial_dims=spatial_dims).double()
    norm.gamma.data.copy_(drawn(*norm.gamma.shape, seed=2).abs() + 0.1)
    x = drawn(1, 6, *(4, 5, 3)[:spatial_dims])
    x[..., 0] = 0
    folded = FoldedRMSNorm(norm.gamma.flatten())(x)
    torch.testing.assert_close(folded, norm(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(folded[..., 0], torch.zeros_like(folded[..., 0]))


def test_a_norm_with_a_gain_below_zero_stays():
    """Squares would lose the sign; the decoder still equals the one it was made from."""
    vae = CausalVAE(VAEConfig(dim=4)).double()
    vae.decoder.head[0].gamma.data[1] = -0.5
    half = fold_half(vae, ("decoder", "conv2"), torch.float64)
    assert isinstance(half.decoder.head[0], RMSNorm)
    assert isinstance(half.decoder.middle[0].residual[0], FoldedRMSNorm)
    x = drawn(1, 4, 2, 8, 8).contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(half.decoder.head(x), vae.decoder.head(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("names", [("decoder", "conv2"), ("encoder", "conv1")])
def test_the_vae_stays_as_it_is(names):
    """Another number format is a copy; every weight of the half is in it and comes from the VAE."""
    vae = CausalVAE(VAEConfig(dim=4))
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    half = fold_half(vae, names, torch.bfloat16)
    for name, tensor in vae.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])
    convolutions = [name for name, tensor in half.named_parameters() if tensor.ndim > 3]
    assert len(convolutions) == len(
        [name for name in before if name.startswith(names) and name.endswith("weight")]
    )
    for name in convolutions:
        assert half.get_parameter(name).dtype == torch.bfloat16
        assert torch.equal(half.get_parameter(name).float(), before[name].bfloat16().float())
