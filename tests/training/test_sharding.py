"""Networks sharded over two processes on a CPU train as whole ones do, and their files hold whole tensors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from talkstream.tests.training.launching import launch
from talkstream.tests.training.tiny_world import random_student
from talkstream.tests.training.two_shards import distil_stage
from talkstream.training.checkpoints import load_training_state
from talkstream.training.parallel import draw, update
from talkstream.training.reward import reward_weights
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


def test_two_processes_are_one_on_the_joined_batch(shards):
    """One process takes the mean of both parts' losses, first the student's, then the fake score's."""
    stage = distil_stage()
    start = {name: value.clone() for name, value in stage.student.state_dict().items()}
    for step in range(2):
        parts = [draw(stage.settings.seed, step, part=part) for part in (0, 1)]
        windows = [stage._windows.draw(step, part, learns=True) for part in parts]
        shown = list(zip(windows, parts, strict=True))
        losses = [stage.student_loss(window, part.own, part.noise)[0] for window, part in shown]
        update(stage._student_optimisers, sum(losses) / 2, stage.student, max_norm=1.0)
        fakes = [
            stage.fake_loss(replace(window, latents=window.latents.detach()), part.own, part.noise)
            for window, part in shown
        ]
        update(stage._critic_optimisers, sum(fakes) / 2, stage._fake, max_norm=1.0)
    for process in shards[0]:
        together = process["whole"]["stage"]
        assert _largest_difference(together["student"], stage.student.state_dict()) < 1e-4
        assert _largest_difference(together["fake"], stage._fake.state_dict()) < 1e-4
    assert _largest_difference(start, stage.student.state_dict()) > 1e-3


def test_streams_of_every_process_live_on_in_the_file(shards):
    """Each goes on with the cache and the speech of its own clips, which are not the other's."""
    first, second = shards[0]
    for process in (first, second):
        going, resumed = process["streaming"], process["streaming_resumed"]
        assert _largest_difference(going["student"], resumed["student"]) == 0.0
        assert torch.equal(going["speech"], resumed["speech"])
    assert not torch.equal(first["streaming"]["speech"], second["streaming"]["speech"])


def test_rewards_are_weighed_over_all_processes(shards):
    """Confidences 0, 1 here and 3, 1 there: softmax over all four at beta = 1 / their standard deviation."""
    everyone = torch.tensor([0.0, 1.0, 3.0, 1.0])
    wanted = reward_weights(everyone, 1 / everyone.std(unbiased=False).item())
    for process, weights in zip(shards[0], wanted.view(2, 2), strict=True):
        torch.testing.assert_close(process["rewards"][0], weights)


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
