"""The host's VAE as the codec of students with motion frames, against our own with the same weights."""

from __future__ import annotations

import pytest
import torch

from talkstream.model_loaders.vae import open_vae
from talkstream.streaming.motion import LocalCodec, encode_conditioning
from talkstream.tests import fakes

pytestmark = pytest.mark.host


def test_pictures_and_latents_are_ours(host, tmp_path):
    """A picture, nine frames and a grey-padded clip encoded, three latents decoded: within 1e-4 of our codec."""
    import comfy.sd
    import comfy.utils

    from talkstream.nodes.host.codec import HostCodec
    from talkstream.nodes.host.vae import encode_picture

    path = tmp_path / "vae.safetensors"
    fakes.write_tiny_wan_vae(path)
    ours = LocalCodec(open_vae(path, dtype=torch.float32))
    hosts_vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path)))
    hosts = HostCodec(hosts_vae)
    generator = torch.Generator().manual_seed(5)
    video = torch.rand(1, 3, 9, 32, 48, generator=generator) * 2 - 1
    for pictures in (video[:, :, :1], video):
        torch.testing.assert_close(hosts.encode(pictures), ours.encode(pictures), rtol=0, atol=1e-4)
    clips = [encode_conditioning(video[:, :, 0], codec, latents=3).latent_BCTHW for codec in (hosts, ours)]
    torch.testing.assert_close(*clips, rtol=0, atol=1e-4)
    picture_BHWC = (video[:, :, 0].movedim(1, -1) + 1) / 2
    node_clip = encode_picture(hosts_vae, picture_BHWC, latents=3)  # what Encode Reference calls
    torch.testing.assert_close(node_clip, clips[1], rtol=0, atol=1e-4)
    latents = torch.randn(1, 16, 3, 4, 6, generator=generator)
    made, expected = hosts.decode(latents), ours.decode(latents).clamp(-1, 1)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)
    assert made.std() > 1e-3
