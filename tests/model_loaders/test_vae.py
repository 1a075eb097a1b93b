"""Our codec from a file: the numbers of the module that wrote it, and a sentence for every wrong file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from talkstream.model_loaders.vae import open_vae
from talkstream.networks.causal_vae import CausalVAE, VAEConfig


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    vae = CausalVAE(VAEConfig(dim=8)).eval()
    path = tmp_path_factory.mktemp("vae") / "tiny_vae.safetensors"
    save_file(vae.state_dict(), path)
    return path, vae


def test_opened_codec_decodes_as_the_written_one(written):
    path, vae = written
    latents = torch.randn(1, 16, 2, 2, 2)
    with torch.no_grad():
        assert torch.equal(open_vae(path).decode(latents), vae.decode(latents))


def test_weights_take_the_asked_type(written):
    assert open_vae(written[0], dtype=torch.bfloat16).conv2.weight.dtype == torch.bfloat16


def test_other_file_is_named(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not a Wan 2.1 VAE"):
        open_vae(path)


def test_missing_tensor_is_named(written, tmp_path):
    tensors = {name: value for name, value in written[1].state_dict().items() if name != "conv2.bias"}
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="conv2.bias"):
        open_vae(tmp_path / "cut.safetensors")
