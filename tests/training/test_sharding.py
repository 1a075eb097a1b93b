"""Networks sharded over two processes on a CPU train as whole ones do, and their files hold whole tensors."""

from __future__ import annotations

import math

import pytest
import torch

from talkstream.tests.training.launching import launch
from talkstream.tests.training.tiny_world import random_student
from talkstream.tests.training.two_shards import distil_stage
from talkstream.training.checkpoints import load_training_state
from talkstream.training.sharding import shard

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """What both processes found, and their folder."""
    folder = tmp_path_factory.mktemp("two_shards")
    launch("tests.training.two_shards", str(folder), folder=folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)], folder


def _largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(
        (first[name].float() - second[name].float()).abs().max().item()
        for name in first
        if isinstance(first[name], torch.Tensor)
    )


def test_a_step_of_student_and_critic_is_that_of_whole_networks(shards):
    """Losses, student, fake score and average after two iterations; what moved, moved far more than they differ."""
    start = distil_stage().state_dict()
    for process in shards[0]:
        whole, sharded = process["whole"], process["sharded"]
        for one, other in zip(whole["losses"], sharded["losses"], strict=True):
            assert one == pytest.approx(other, rel=2e-3)
        for name in ("student", "fake", "average"):
            assert _largest_difference(whole["stage"][name], sharded["stage"][name]) < 2e-5, name
            assert _largest_difference(start[name], sharded["stage"][name]) > 1e-3, name


def test_each_process_holds_half(shards):
    own = [process["sharded"]["own"] for process in shards[0]]
    everything = shards[0][0]["whole"]["own"]
    assert sum(own) == everything
    assert max(own) < 0.55 * everything


def test_a_sharded_run_resumes_from_its_file(shards):
    for process in shards[0]:
        for name in ("student", "fake", "average"):
            resumed, went_on = process["resumed"]["stage"][name], process["sharded"]["stage"][name]
            assert _largest_difference(resumed, went_on) == 0.0, name
    first, second = (process["resumed"]["evaluated"] for process in shards[0])
    assert first == second


def test_one_process_goes_on_from_the_file_of_a_sharded_run(shards):
    _, folder = shards
    stage = distil_stage()
    step, _ = load_training_state(folder / "paused.pt", stage)
    assert step == 1
    assert all(math.isfinite(value) for value in stage.step(step, 0.5).values())


def test_experts_cannot_be_sharded():
    """They are asked only for clips of their own, while all processes must run the same forwards."""
    with pytest.raises(ValueError, match="1 experts are given"):
        distil_stage(sharded=True, experts={0: random_student(seed=2)})


def test_one_process_cannot_shard():
    with pytest.raises(ValueError, match="leave --shard out"):
        shard(random_student())
