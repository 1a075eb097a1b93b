"""The codec stage: what it starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.training.codec import CodecSettings
from talkstream.training.codec_init import initialise_codec
from talkstream.training.config import Recipe, StageRecipe
from talkstream.training.export import export_codec
from talkstream.training.stages import build_stage, export_results, read_codec
from talkstream.training.trainer import Budget
from talkstream.training.world.dataset import DatasetSize


def _recipe(folder, start, *, dim=4):
    random = np.random.default_rng(0)
    np.save(folder / "frames.npy", random.integers(0, 255, (2, 21, 32, 32, 3), dtype=np.uint8))
    np.save(folder / "samples.npy", np.zeros((2, 16000), np.float16))
    np.save(folder / "mouth.npy", np.zeros((2, 21, 5), np.float32))
    (folder / "dataset.json").write_text("{}")
    settings = CodecSettings(dim=dim, phases=((1.0, ((16, 5, 2),)),))
    part = StageRecipe("codec", settings, Budget(steps=1), Budget(steps=1))
    size = DatasetSize(clips=2, frames=21, side=32)
    return Recipe(
        folder / "run", size, folder, size, folder, (part,), start=start,
        export_codec=folder / "run" / "out.safetensors",
    )  # fmt: skip


def _codec_file(path, *, dim=4):
    vae = CausalVAE(VAEConfig(dim=dim))
    initialise_codec(vae, torch.Generator().manual_seed(7))
    export_codec(path, vae)
    return path


def test_a_codec_starts_from_a_file_and_then_from_the_folder_it_left(tmp_path):
    """Equal weights from the file; what a run exported and what lies in its folder are the same codec."""
    file = _codec_file(tmp_path / "shipped.safetensors")
    recipe = _recipe(tmp_path, file)
    stage = build_stage(recipe, 0, device=torch.device("cpu"))
    wanted = read_codec(file).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in stage.vae.state_dict().items())
    assert all(parameter.requires_grad for parameter in stage.vae.parameters())
    assert np.isfinite(stage.step(0, 0.5)["l1"])
    recipe.folder.mkdir()
    export_results(recipe, stage)
    again = build_stage(_recipe(tmp_path, recipe.folder), 0, device=torch.device("cpu")).vae.state_dict()
    exported = read_codec(recipe.export_codec).state_dict()
    for name, tensor in again.items():
        torch.testing.assert_close(tensor, exported[name], rtol=2e-3, atol=1e-3)


def test_a_wrong_start_is_named(tmp_path):
    file = _codec_file(tmp_path / "wide.safetensors", dim=8)
    with pytest.raises(ValueError, match="8 wide, this stage's is 4; set dim: 8"):
        build_stage(_recipe(tmp_path, file), 0, device=torch.device("cpu"))
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no finished codec"):
            build_stage(_recipe(tmp_path, missing), 0, device=torch.device("cpu"))
