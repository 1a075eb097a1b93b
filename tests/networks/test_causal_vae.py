"""Causal VAE: causal, the first latent a picture of its own, statistics folded exactly, keys as published."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.causal_vae import CausalVAE, VAEConfig, denormalise_latents, normalise_latents
from talkstream.training.codec_init import initialise_codec
from talkstream.training.export import fold_latent_statistics


@pytest.fixture(scope="module")
def vae():
    vae = CausalVAE(VAEConfig(dim=4))
    initialise_codec(vae, torch.Generator().manual_seed(0))
    return vae.requires_grad_(False)


@pytest.fixture(scope="module")
def latents():
    return torch.randn(1, 16, 7, 2, 3, generator=torch.Generator().manual_seed(1))


def test_encoder_and_decoder_see_the_past_only(vae, latents):
    frames = torch.rand(1, 3, 13, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    changed = frames.clone()
    changed[:, :, 9:] = 0.0
    torch.testing.assert_close(vae.encode(changed)[:, :, :3], vae.encode(frames)[:, :, :3], atol=1e-6, rtol=0)
    assert (vae.encode(changed)[:, :, 3] - vae.encode(frames)[:, :, 3]).abs().max() > 1e-3
    other = latents.clone()
    other[:, :, 4:] = 0.0
    torch.testing.assert_close(
        vae.decode(other)[:, :, :13], vae.decode(latents)[:, :, :13], atol=1e-6, rtol=0
    )


def test_first_latent_is_that_of_the_picture_alone(vae):
    frames = torch.rand(1, 3, 9, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    alone = vae.encode(frames[:, :, :1])
    torch.testing.assert_close(vae.encode(frames)[:, :, :1], alone, atol=1e-6, rtol=0)


def test_folding_statistics_keeps_pictures_and_moves_latents():
    vae = CausalVAE(VAEConfig(dim=4))
    generator = torch.Generator().manual_seed(4)
    initialise_codec(vae, generator)
    vae.requires_grad_(False)
    frames = torch.rand(1, 3, 5, 16, 16, generator=generator) * 2 - 1
    before = vae.encode(frames)
    picture = vae.decode(before)
    mean, std = torch.randn(16, generator=generator), torch.rand(16, generator=generator) + 0.5
    fold_latent_statistics(vae, mean, std)
    after = vae.encode(frames)
    wanted = (before - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
    torch.testing.assert_close(normalise_latents(after), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vae.decode(after), picture, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(denormalise_latents(normalise_latents(after)), after, atol=1e-5, rtol=1e-5)


def test_published_shape_has_the_published_keys():
    """Names and sizes of the 96-wide codec as published; 127 million numbers in 194 tensors."""
    with torch.device("meta"):
        tensors = CausalVAE(VAEConfig(dim=96)).state_dict()
    assert len(tensors) == 194
    assert sum(tensor.numel() for tensor in tensors.values()) == 126_892_531
    assert tensors["decoder.upsamples.3.time_conv.weight"].shape == (768, 384, 3, 1, 1)
    assert tensors["decoder.upsamples.4.shortcut.weight"].shape == (384, 192, 1, 1, 1)


def test_refuses_sizes_it_cannot_encode(vae):
    with pytest.raises(ValueError, match="1 \\+ 4n frames"):
        vae.encode(torch.zeros(1, 3, 4, 16, 16))
