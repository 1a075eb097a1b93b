"""Recipes at the sizes of released students: layouts, two steps without data, memory per process."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from talkstream.networks.wan import WanConfig, WanModel
from talkstream.tests import layouts
from talkstream.training import finetune
from talkstream.training.config import Recipe, StageRecipe, load_recipe
from talkstream.training.dmd import DistilSettings
from talkstream.training.finetune import FinetuneSettings
from talkstream.training.memory_plan import GIB, StageTensors, shard_bytes
from talkstream.training.rehearsal import rehearse
from talkstream.training.shapes import SHAPES, Shape
from talkstream.training.teacher import TeacherSettings
from talkstream.training.trainer import Budget
from talkstream.training.world.dataset import DatasetSize

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

META = torch.device("meta")
RECIPES = Path(__file__).parents[2] / "training" / "recipes"


def recipe_of(*stages: str) -> Recipe:
    settings = {
        "teacher": TeacherSettings(batch=1), "finetune": FinetuneSettings(batch=1), "distil": DistilSettings(batch=1),
        "codec": object(),
    }  # fmt: skip
    parts = tuple(StageRecipe(name, settings[name], Budget(steps=2), Budget(steps=2)) for name in stages)
    size = DatasetSize(clips=2, frames=53, side=32)
    return Recipe(Path("unused"), size, Path("unused"), size, Path("unused"), parts)


def tiny(name: str) -> Shape:
    """A released student's schedule, cache and channels at a size that computes in no time."""
    shape = SHAPES[name]
    network = WanConfig(
        dim=32,
        in_dim=shape.network.in_dim,
        ffn_dim=48,
        num_heads=1,
        num_layers=4,
        text_dim=24,
        audio_in=4 * 14,
    )
    return Shape(network, replace(shape.profile, width=32, height=32), latents=15)


@pytest.mark.parametrize(
    ("name", "layout", "tensors"),
    [("livetalk_1.3b", layouts.livetalk(), 857), ("lipforcing_14b", layouts.lip_forcing(), 1137)],
)
def test_shapes_are_the_released_layouts(name, layout, tensors):
    with META:
        network = WanModel(SHAPES[name].network)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert shapes == layout
    assert len(shapes) == tensors


@pytest.mark.parametrize("name", SHAPES)
def test_meta_and_real_steps_keep_the_same(name):
    """The same sizes go through rollout, scores, losses and gradients with numbers and without."""
    recipe = recipe_of("codec", "teacher", "finetune", "distil")
    real, planned = (rehearse(recipe, tiny(name), device=device) for device in (torch.device("cpu"), META))
    assert len(real) == len(planned) == 3
    for one, other in zip(real, planned, strict=True):
        for processes in (1, 3, 8):
            assert one.bytes_per_process(processes) == other.bytes_per_process(processes)
    assert set(planned[2].networks) == {"student", "fake score", "teacher"}
    assert all(parameter.grad is None for parameter in planned[2].trained)


@pytest.mark.parametrize(
    "rollout",
    [
        {"rollout": "self_correction", "corrected_chunks": 3},
        {"rollout": "long_tail", "horizon": 18, "switch_share": 1.0, "recache": 3},
    ],
    ids=["self_correction", "long_tail"],
)
def test_every_rollout_runs_without_numbers(rollout):
    """Streams as long as clips and longer, with vectors of another encoder for speech."""
    settings = DistilSettings(batch=1, window=9, guidance_rule="acc", **rollout)
    part = StageRecipe("distil", settings, Budget(steps=2), Budget(steps=2))
    (kept,) = rehearse(replace(recipe_of("distil"), stages=(part,)), tiny("livetalk_1.3b"), device=META)
    assert kept.optimiser and all(parameter.grad is None for parameter in kept.trained)


def test_no_reader_is_trained_to_rehearse_flow_matching(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("a reader of mouths was trained on random latents")

    monkeypatch.setattr(finetune, "train_latent_reader", refuse)
    part = StageRecipe(
        "finetune", FinetuneSettings(batch=1, reading_share=15.0), Budget(steps=2), Budget(steps=2)
    )
    (kept,) = rehearse(
        replace(recipe_of("finetune"), stages=(part,)), tiny("livetalk_1.3b"), device=torch.device("cpu")
    )
    assert set(kept.networks) == {"student"}


@pytest.mark.parametrize("name", SHAPES)
def test_recipes_start_at_released_widths(name):
    """Two steps of the shipped distillation at full width and 512 pixels, four layers of the many, in bounded time."""
    shape = SHAPES[name]
    shallow = replace(shape, network=replace(shape.network, num_layers=4))
    started = time.process_time()
    (kept,) = rehearse(load_recipe(RECIPES / "distil.yaml"), shallow, device=META)
    assert time.process_time() - started < 60
    assert max(t.shape[0] for t in kept.trained) == max(6 * shape.network.dim, shape.network.ffn_dim)


def test_the_plan_counts_rows():
    """Three processes cut five rows into two, two, one; a bias of one row lies whole in the first."""
    tensors = [torch.zeros(5, 4), torch.zeros(1, 6, 8, dtype=torch.bfloat16), torch.zeros(())]
    assert shard_bytes(tensors, 1) == 80 + 96 + 4
    assert shard_bytes(tensors, 3) == 2 * 16 + 96 + 4


def test_the_plan_of_adamw_is_the_sum_by_hand():
    """float32 weights of two networks, one average, one gradient, two moments: (2 + 1 + 1 + 2) x 4 bytes a number."""
    student, teacher = (torch.nn.Linear(1 << 10, 1 << 10, bias=False, device="meta") for _ in range(2))
    optimiser = torch.optim.AdamW(student.parameters())
    student(torch.zeros(1, 1 << 10, device="meta")).sum().backward()
    optimiser.step()
    kept = StageTensors.of({"student": student, "teacher": teacher}, student.parameters(), [optimiser])
    assert sum(kept.bytes_per_process(1).values()) == 6 * 4 << 20
    assert sum(kept.bytes_per_process(4).values()) == 6 << 20
    lines = kept.describe((1, 4))
    assert lines[2].split() == ["1", "0.01", "0.00", "0.00", "0.01", f"{(6 * 4 << 20) / GIB:.2f}"]


def test_a_recipe_without_the_student_cannot_be_rehearsed():
    with pytest.raises(ValueError, match="needs one of teacher, finetune, distil"):
        rehearse(recipe_of("codec"), tiny("livetalk_1.3b"), device=META)
