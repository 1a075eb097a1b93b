"""The weights inside the Lip Forcing golden, loaded as an artist's file is: family, sizes, profile, every tensor."""

from __future__ import annotations

import json

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from talkstream.model_loaders.build import build_network, open_student
from talkstream.networks.profile import LIPFORCING


def test_golden_weights_load_through_the_loader(golden_file, tmp_path):
    with safe_open(str(golden_file("lipforcing_tiny.safetensors")), framework="pt") as golden:
        sizes = json.loads(golden.metadata()["config"])
        weights = {name[3:]: golden.get_tensor(name) for name in golden.keys() if name.startswith("sd.")}
    path = tmp_path / "model.safetensors"
    save_file(weights, str(path))
    student = open_student(path)
    for name in ("dim", "in_dim", "ffn_dim", "text_dim", "num_heads", "num_layers"):
        assert getattr(student.config, name) == sizes[name], name
    assert student.profile.sigmas == tuple(sizes["t_list"]) == LIPFORCING.sigmas
    assert student.profile.cache_spec.window == sizes["window"] and student.profile.sink == sizes["sink"]
    assert student.profile.speech == LIPFORCING.speech
    state = build_network(student.tensors, student.config).state_dict()
    assert set(state) == set(weights)
    assert all(torch.equal(state[name], weights[name]) for name in weights)
