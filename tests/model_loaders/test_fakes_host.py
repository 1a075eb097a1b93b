"""The layouts that our tests write down are those that ComfyUI's own loaders expect, name for name."""

from __future__ import annotations

import pytest
import torch

from talkstream.model_loaders.build import open_student
from talkstream.tests import fakes, layouts

pytestmark = pytest.mark.host


def test_vae_is_loaded_by_load_vae_without_a_missing_or_unknown_tensor(host, tmp_path):
    import comfy.sd
    import comfy.utils

    path = fakes.write_tiny_wan_vae(tmp_path / "vae.safetensors", dim=4)
    stored = comfy.utils.load_torch_file(str(path))
    vae = comfy.sd.VAE(sd=dict(stored))
    state = vae.first_stage_model.state_dict()
    assert set(state) == set(stored) and vae.latent_channels == 16
    assert torch.equal(state["decoder.head.2.weight"].float(), stored["decoder.head.2.weight"])
    frames = vae.decode(vae.encode(torch.rand(1, 32, 32, 3)))
    assert torch.isfinite(frames).all() and frames.shape[-3:] == (32, 32, 3)


def test_wav2vec2_is_loaded_by_load_audio_encoder_whole(host):
    from comfy.audio_encoders.audio_encoders import load_audio_encoder_from_sd

    tensors = fakes.random_tensors(layouts.wav2vec2_base(), dtype=torch.float16)
    encoder = load_audio_encoder_from_sd(dict(tensors))
    assert set(encoder.get_sd()) == set(tensors)
    out = encoder.encode_audio(0.1 * torch.randn(1, 1, 16000), 16000)
    assert len(out["encoded_audio_all_layers"]) == 13
    assert torch.isfinite(out["encoded_audio"]).all() and out["encoded_audio"].shape == (1, 49, 768)


@pytest.mark.parametrize("in_dim", [33, 65])
def test_wan_half_of_a_student_is_all_that_load_diffusion_model_wants(host, tmp_path, in_dim):
    import comfy.sd

    student = open_student(fakes.write_tiny_audiopack(tmp_path / "student.safetensors", in_dim=in_dim))
    wan = student.wan_tensors()
    patcher = comfy.sd.load_diffusion_model_state_dict(dict(wan))
    network = patcher.model.diffusion_model
    assert set(network.state_dict()) == set(wan)
    assert type(patcher.model).__name__ == "WAN21"
    weight = network.blocks[3].ffn[0].weight
    assert torch.equal(weight.float(), wan["blocks.3.ffn.0.weight"].to(weight.dtype).float())
