"""From the teacher to its experts and to a causal student: every stage is built from what the one before left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.tests.training.tiny_world import CACHE, NETWORK, SPEECH, random_bank
from talkstream.training import stages
from talkstream.training.config import Recipe, StageRecipe
from talkstream.training.data import save_bank
from talkstream.training.experts import ExpertSettings
from talkstream.training.finetune import FinetuneSettings
from talkstream.training.ode import OdeSettings
from talkstream.training.speech import FaceRegressor
from talkstream.training.teacher import TeacherSettings
from talkstream.training.teacher_sampling import TeacherSampling
from talkstream.training.trainer import Budget, train
from talkstream.training.world.dataset import DatasetSize

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

ONCE = Budget(steps=1)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny_mini(monkeypatch):
    monkeypatch.setattr(stages, "NETWORK", NETWORK)
    monkeypatch.setattr(stages, "SPEECH", SPEECH)


def _recipe(folder, *parts, start=None):
    """A recipe whose clips are encoded already."""
    for name in ("train", "held_out"):
        bank = replace(random_bank(3), domain=np.array([0, 1, 1]))
        save_bank(folder / f"{name}_latents.npz", bank)
    size = DatasetSize(clips=3, frames=57, side=32)
    made = tuple(StageRecipe(kind, settings, ONCE, ONCE, name) for kind, settings, name in parts)
    return Recipe(folder, size, folder, size, folder, made, start=start)


def _run(recipe):
    for index, part in enumerate(recipe.stages):
        stage = stages.build_stage(recipe, index, device=CPU)
        begun = {name: tensor.clone() for name, tensor in stage.student.state_dict().items()}
        train(stage, ONCE, recipe.folder / part.folder)
        yield stage, begun


def _same(weights, folder):
    left = stages._averaged(folder)
    return weights.keys() == left.keys() and all(torch.equal(weights[name], left[name]) for name in left)


def test_every_stage_starts_from_what_the_one_before_left(tmp_path):
    regressor = FaceRegressor(SPEECH)
    (tmp_path / "teacher" / "speech").mkdir(parents=True)
    torch.save(
        {"stage": {"regressor": regressor.state_dict()}}, tmp_path / "teacher" / "speech" / "training.pt"
    )
    short = TeacherSettings(batch=2, window=3, middle_share=0.5)
    recipe = _recipe(tmp_path / "teacher", ("teacher", short, ""), ("teacher", short, "sft"))
    (teacher, begun), (_, continued) = _run(recipe)
    ear = regressor.encoder.state_dict()
    assert all(torch.equal(begun[f"encoder.{name}"], ear[name]) for name in ear)
    assert _same(continued, tmp_path / "teacher" / "teacher")
    assert teacher.student.network.text_embedding[0].weight.requires_grad

    start = tmp_path / "teacher" / "sft"
    sampling = TeacherSampling(steps=12)
    ode = OdeSettings(batch=2, pairs=3, held_out_pairs=2, sampling=sampling)
    causal = _recipe(
        tmp_path / "causal", ("finetune", FinetuneSettings(batch=2), ""), ("ode", ode, ""), start=start
    )
    (_, begun), (_, continued) = _run(causal)
    assert _same(begun, start) and _same(continued, tmp_path / "causal" / "finetune")
    assert (tmp_path / "causal" / "held_out_trajectories.npz").exists()

    expert = ExpertSettings(
        domain="singing", clips=1, group=2, window=3, steps=3, picked=1, updates=1, reader_steps=2
    )
    both = _recipe(tmp_path / "experts", ("expert", expert, "one"), ("expert", expert, "two"), start=start)
    assert all(_same(begun, start) for _, begun in _run(both))
    assert stages._profile(both).cache_spec == replace(CACHE, steps=4)


@pytest.mark.parametrize("kind", ["ode", "expert"])
def test_a_stage_that_needs_a_teacher_says_so(tmp_path, kind):
    settings = {"ode": OdeSettings(), "expert": ExpertSettings(domain="singing", reader_steps=1)}
    recipe = _recipe(tmp_path, (kind, settings[kind], ""))
    with pytest.raises(ValueError, match=f"the stage {kind} needs a trained network; set teacher: or start:"):
        stages.build_stage(recipe, 0, device=CPU)
