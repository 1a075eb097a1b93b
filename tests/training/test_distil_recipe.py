"""From a recipe to a distillation stage: which networks it starts from, its form, and what the exported file says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from talkstream.networks.profile import METADATA_KEY, StudentProfile
from talkstream.tests.training.tiny_world import ECHO_CACHE, ECHO_SIGMAS, random_bank
from talkstream.training import stages
from talkstream.training.config import load_recipe
from talkstream.training.data import LatentBank, save_bank
from talkstream.training.mini import NETWORK, SPEECH, mini_profile, with_cache
from talkstream.training.mini_echo import echo_profile
from talkstream.training.student import TrainableStudent

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
SMALL = replace(NETWORK, dim=32, ffn_dim=48, num_heads=1, num_layers=2, text_dim=24)


def _write(folder: Path, bias: float) -> Path:
    """A finished stage whose head's bias is this number, and this number plus one in its running average."""
    network = TrainableStudent(SMALL, SPEECH, torch.Generator().manual_seed(0))
    name = "network.head.head.bias"
    weights = network.state_dict() | {name: torch.full((64,), bias)}
    average = {"updates": 3, name: torch.full((64,), bias + 1)}
    folder.mkdir(parents=True)
    torch.save({"stage": {"student": weights, "average": average}}, folder / "training.pt")
    return folder


def _bank() -> LatentBank:
    bank = random_bank(2)
    mel = np.random.default_rng(0).random((*bank.mel.shape[:3], SPEECH.bins)).astype(np.float16)
    return replace(bank, mel=mel)


def _bias(network: TrainableStudent) -> float:
    return network.network.head.head.bias.unique().item()


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The shipped echo recipe in a folder of its own, with small networks and encoded clips."""
    monkeypatch.setattr(stages, "NETWORK", SMALL)
    shipped = load_recipe(RECIPES / "distil_echo.yaml")
    part = replace(shipped.stages[0], settings=replace(shipped.stages[0].settings, batch=1, window=4))
    for name in ("train", "held_out"):
        save_bank(tmp_path / f"{name}_latents.npz", _bank())
    return replace(
        shipped, folder=tmp_path, stages=(part,), start=_write(tmp_path / "start", 1.0), codec=None, teacher=None,
        experts={}, export_student=tmp_path / "echo.safetensors",
    )  # fmt: skip


def _build(recipe):
    return stages.build_stage(recipe, 0, device=torch.device("cpu"))


def test_student_teacher_and_experts_come_from_their_folders(recipe, tmp_path):
    """Running averages of start, teacher and one expert; the fake score is a copy of the teacher."""
    given = {"teacher": _write(tmp_path / "teacher", 4.0)}
    given["experts"] = {"singing": _write(tmp_path / "singing", 7.0)}
    stage = _build(replace(recipe, **given))
    assert (_bias(stage.student), _bias(stage._fake)) == (2.0, 5.0)
    assert _bias(stage._real._general._network) == 5.0
    assert {index: _bias(score._network) for index, score in stage._real._experts.items()} == {1: 8.0}
    alone = _build(recipe)
    assert _bias(alone._real._general._network) == _bias(alone._fake) == 2.0


def test_a_second_distillation_keeps_the_fake_score_and_the_teacher(recipe, tmp_path):
    """Its student is the first one's average, its fake score the first one's, its teacher what the first began with."""
    first = replace(recipe.stages[0], name="first")
    folder = _write(tmp_path / "first", 4.0)
    state = torch.load(folder / "training.pt", weights_only=True)
    fake = state["stage"]["student"] | {"network.head.head.bias": torch.full((64,), 9.0)}
    torch.save({"stage": state["stage"] | {"fake": fake}}, folder / "training.pt")
    twice = replace(recipe, stages=(first, replace(first, name="second")))
    stage = stages.build_stage(twice, 1, device=torch.device("cpu"))
    assert (_bias(stage.student), _bias(stage._fake), _bias(stage._real._general._network)) == (5.0, 9.0, 2.0)


def test_an_unknown_domain_is_named(recipe, tmp_path):
    with pytest.raises(
        ValueError, match="domains \\['whistling'\\]; allowed: speaking, singing, profile, rare"
    ):
        _build(replace(recipe, experts={"whistling": tmp_path}))


def test_the_echo_form_is_what_the_stage_rolls_out(recipe):
    stage = _build(recipe)
    assert stage.cache == echo_profile().cache_spec == ECHO_CACHE
    assert stage._streamer.schedule.sigmas == echo_profile().sigmas == ECHO_SIGMAS
    with pytest.raises(ValueError, match="leave lip_sync out"):
        _build(replace(recipe, lip_sync=True))


def test_the_exported_file_says_what_the_student_was_trained_with(recipe):
    """A run without a sink, with history everywhere, on larger clips exports a profile that streams just so.

    (The profile once had the form's size whatever the clips' was.)
    """
    changed = replace(recipe, sink=0, history=(12,), data=replace(recipe.data, side=160))
    stage = _build(changed)
    stages.export_results(changed, stage)
    with safe_open(changed.export_student, "pt") as file:
        profile = StudentProfile.from_json(file.metadata()[METADATA_KEY])
        bias = file.get_tensor("head.head.bias").unique().item()
    assert profile.cache_spec == stage.cache == replace(ECHO_CACHE, sink=0, history=(12,))
    assert (profile.sigmas, profile.cache_mode, bias) == (ECHO_SIGMAS, "per_step", 2.0)
    assert (profile.width, profile.height) == (160, 160)
    assert with_cache(mini_profile(), sink=None, history=None) == mini_profile()
