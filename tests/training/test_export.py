"""What is exported loads again and says the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from talkstream.model_loaders.build import build_audio_modules, build_network, open_student
from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.training.codec_init import initialise_codec
from talkstream.training.export import export_codec, export_student
from talkstream.training.mini import NETWORK, SPEECH, mini_profile
from talkstream.training.mini_lipsync import LIPSYNC_NETWORK, lipsync_profile
from talkstream.training.sampling import load_codec_file, load_mini
from talkstream.training.student import TrainableStudent


@pytest.mark.parametrize(
    ("config", "profile"),
    [(NETWORK, mini_profile()), (LIPSYNC_NETWORK, lipsync_profile())],
    ids=["portrait", "lip sync"],
)
def test_student_file_is_recognised_and_whole(tmp_path, config, profile):
    student = TrainableStudent(config, SPEECH, torch.Generator().manual_seed(0))
    path = tmp_path / "student.safetensors"
    export_student(path, student.network, student.encoder, profile, dtype=torch.float32)
    opened = open_student(path)
    assert replace(opened.profile, source=profile.source) == profile
    assert opened.config == config
    sampled = load_mini(path, _codec_file(tmp_path / "vae.safetensors")).student.network
    assert torch.equal(sampled.patch_embedding.weight, student.network.patch_embedding.weight)
    network = build_network({**opened.wan_tensors(), **opened.audio_tensors()}, opened.config)
    assert torch.equal(network.blocks[5].ffn[2].weight, student.network.blocks[5].ffn[2].weight)
    modules = build_audio_modules(opened.audio_tensors(), opened.profile)
    mel = torch.rand(1, 36, SPEECH.bins)
    assert torch.equal(modules.speech_encoder(mel), student.encoder(mel))


def _codec_file(path):
    export_codec(path, CausalVAE(VAEConfig(dim=4)))
    return path


def test_codec_file_loads_under_the_same_names(tmp_path):
    vae = CausalVAE(VAEConfig(dim=4))
    initialise_codec(vae, torch.Generator().manual_seed(0))
    export_codec(tmp_path / "vae.safetensors", vae, dtype=torch.float32)
    loaded = load_codec_file(tmp_path / "vae.safetensors")
    frames = torch.rand(1, 3, 5, 16, 16)
    assert torch.equal(loaded.encode(frames), vae.encode(frames))
