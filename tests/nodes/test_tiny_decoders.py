"""Tiny decoders of the host, in chunks against their own whole decode, and which latents each is given."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def weights(host) -> dict[str, torch.Tensor]:
    """A random TAEHV of Wan 2.1 in the host's names."""
    from comfy.taesd.taehv import TAEHV

    network = TAEHV(latent_channels=16)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = max(1, parameter[0].numel())
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)
    return network.state_dict()


def vae_of(weights, dtype=torch.float32, *, path=None):
    """The VAE that core's Load VAE makes of such a file."""
    import comfy.sd

    vae = comfy.sd.VAE(sd={name: tensor.to(dtype) for name, tensor in weights.items()})
    vae.patcher.cached_patcher_init = (
        None if path is None else (comfy.sd.load_vae_patcher, (path, None, None))
    )
    return vae


@pytest.mark.parametrize("sizes", [[1, 3], [3, 1], [4]])
@pytest.mark.parametrize("scale", ["normalised", "raw"])
def test_chunks_are_the_hosts_whole_decode(weights, sizes, scale):
    """Of latents as the network makes them: handed on as they are, or in the VAE's own units."""
    from comfy.latent_formats import Wan21

    from talkstream.nodes.host.decoders import HostTinyDecoder

    vae, latents = vae_of(weights), torch.randn(1, 16, 4, 4, 6)
    given = latents if scale == "normalised" else Wan21().process_out(latents)
    with torch.inference_mode():
        expected = vae.first_stage_model.decode(given)[0].movedim(0, -1).clamp(0, 1)
        with HostTinyDecoder(vae, scale=scale) as decoder:
            made = torch.cat([decoder.decode(part) for part in latents.split(sizes, dim=2)])
    assert made.shape == (13, 32, 48, 3)
    assert float((made - expected).abs().max()) < 1e-5
    assert float(expected.std()) > 0.01


def test_the_two_published_kinds_are_told_apart(weights):
    """By file name, then by number format as the host does it, and by the user's word before both."""
    from talkstream.nodes.host.decoders import latents_are_raw

    half, full = vae_of(weights, torch.float16), vae_of(weights)
    assert not latents_are_raw(half, "auto") and latents_are_raw(full, "auto")
    assert not latents_are_raw(vae_of(weights, path="/models/vae/taew2_1.safetensors"), "auto")
    assert latents_are_raw(vae_of(weights, torch.float16, path="/models/lightTAEw2_1.pth"), "auto")
    assert latents_are_raw(half, "raw") and not latents_are_raw(full, "normalised")


def test_decoders_that_cannot_show_a_student_are_refused(weights):
    import comfy.sd

    from talkstream.nodes.host.decoders import check_decoder

    check_decoder(vae_of(weights), student="livetalk")
    with pytest.raises(ValueError, match="TalkStream Mini, whose latents"):
        check_decoder(vae_of(weights), student="talkstream_mini")
    other = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="got another VAE"):
        check_decoder(other, student="livetalk")
