"""Regression on a teacher's trajectories: what is kept, what the student sees of it, when it ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.samplers.guidance import Guidance
from talkstream.tests.training.tiny_world import CACHE, NETWORK, SIGMAS, SPEECH, random_bank, random_student
from talkstream.training.data import take_batch
from talkstream.training.ode import OdeSettings, OdeStage, states_at
from talkstream.training.parallel import Draws
from talkstream.training.sequences import draw_sequence
from talkstream.training.teacher_sampling import Teacher, TeacherSampling, sample_window
from talkstream.training.trainer import Budget, train
from talkstream.training.trajectories import (
    TrajectoryBank,
    load_trajectories,
    make_trajectories,
    save_trajectories,
)

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

SAMPLING = TeacherSampling(steps=3, audio_guidance=2.0)
LEVELS = SIGMAS[:-1]
HYBRID = replace(CACHE, history=(6, 0), sink=1, mode="per_step", sink_source="reference_then_first_generated")


def _teacher():
    return Teacher(random_student(3), guidance=Guidance(audio=2.0))


def _trajectories(bank, pairs=4):
    return make_trajectories(
        _teacher(), bank, pairs=pairs, sampling=SAMPLING, levels=LEVELS, latents=9, seed=2
    )


def _random_trajectories(bank, pairs=4):
    random = np.random.default_rng(5)
    states = random.standard_normal((pairs, 3, 16, 15, 4, 4)).astype(np.float16)
    clips = np.arange(pairs) % len(bank.latents)
    return TrajectoryBank(states, np.array(SIGMAS, np.float32), clips, np.zeros(pairs, np.int64))


def _stage(cache=CACHE, **settings):
    bank = random_bank(3)
    both = (bank, _random_trajectories(bank))
    return OdeStage(OdeSettings(batch=2, **settings), both, both, network=NETWORK, speech=SPEECH, cache=cache)


def test_a_bank_keeps_the_teachers_states(tmp_path):
    """The noise at level 1, the input of the step at the second level, the end; found again from the file."""
    bank = random_bank(3)
    made = _trajectories(bank)
    save_trajectories(tmp_path / "t.npz", made)
    kept = load_trajectories(tmp_path / "t.npz", levels=LEVELS)
    assert kept.states.shape == (4, 3, 16, 9, 4, 4) and sorted(kept.clips[:3].tolist()) == [0, 1, 2]
    batch = take_batch(bank, kept.clips, kept.versions, latents=9)
    seen = []
    noise = torch.randn(4, 16, 9, 4, 4, generator=torch.Generator().manual_seed(2))
    end = sample_window(
        _teacher(), batch, range(9), schedule=SAMPLING.schedule(LEVELS), noise=noise,
        on_input=lambda step, x: seen.append(x),
    )  # fmt: skip
    assert np.array_equal(kept.states[:, 0, :, 1:], noise[:, :, 1:].half().numpy())
    assert np.array_equal(kept.states[:, 1], seen[SAMPLING.schedule(LEVELS).sigmas.index(LEVELS[1])].half())
    assert np.array_equal(kept.states[:, 2], end.half().numpy())
    assert np.array_equal(kept.states[:, 2, :, 0], bank.latents[kept.clips, :, 0])
    with pytest.raises(ValueError, match="delete the file"):
        load_trajectories(tmp_path / "t.npz", levels=(1.0, 0.5))


def test_each_latent_is_in_the_state_of_its_chunk():
    states = torch.arange(3.0)[None, :, None, None, None, None] * 100 + torch.arange(9.0).view(
        1, 1, 1, 9, 1, 1
    )
    level = torch.tensor([[2, 0, 0, 1], [1, 1, 2, 0]])
    picked = states_at(states.expand(2, -1, -1, -1, -1, -1), level, [0, 3, 4, 8])
    assert picked[:, 0, :, 0, 0].tolist() == [[200, 3, 4, 108], [100, 103, 204, 8]]


@pytest.mark.parametrize("cache", [CACHE, HYBRID], ids=["clean", "per_step"])
def test_the_loss_regresses_the_clean_end(cache):
    """Loss and gradient against w (x - sigma v - end)^2 / sum w, by a network that says v = s x."""
    stage = _stage(cache, clean_share=0.5)
    scale, calls = torch.tensor(0.1, requires_grad=True), []

    def forward(x, *, timestep_BT, **given):
        calls.append((x[:, :16], timestep_BT / 1000, given))
        return scale * x[:, :16]

    stage.student.forward = forward
    for seed in range(4):
        drawn = stage._draw(stage._bank, np.random.default_rng(seed), clips=2, warp=True)
        sequence = draw_sequence(np.random.default_rng(seed), spec=cache, clip_chunks=5, early_share=0.35)
        places = sequence.places()
        loss = stage._loss(drawn, Draws(*(np.random.default_rng(seed) for _ in range(2)), torch.Generator()))
        x, sigma, given = calls.pop()
        assert given["positions"] == sequence.positions() and len(given["attention_mask_LL"]) == len(
            cache.history
        )
        levels = (sigma[..., None] - torch.tensor(SIGMAS)).abs().argmin(dim=-1)
        states = states_at(drawn.states, levels, places)
        given_latent = torch.tensor([place == 0 for place in places])
        reference = drawn.batch.condition.reference_BC1HW
        assert torch.equal(x, torch.where(given_latent[:, None, None], reference, states))
        chunks = sigma[:, sequence.sink :].unflatten(1, (-1, 3))
        assert (chunks == chunks[:, :, :1]).all() and (chunks[:, -1] > 0).all()
        assert (sigma[:, : sequence.sink] == 0).all()
        if cache is HYBRID:
            assert (chunks == chunks[:, :1]).all()
        weight = (
            sequence.by_latent(torch.tensor([sequence.learnable()] * 2).float()) * (sigma > 0) * ~given_latent
        )
        weight = (weight[:, None, :, None, None] * stage._importance).expand_as(x)
        error = x - sigma[:, None, :, None, None] * 0.1 * x - drawn.states[:, -1][:, :, places]
        torch.testing.assert_close(loss.detach(), (weight * error**2).sum() / weight.sum())
        slope = (weight * 2 * error * -sigma[:, None, :, None, None] * x).sum() / weight.sum()
        torch.testing.assert_close(torch.autograd.grad(loss, scale)[0], slope)


def test_the_stage_ends_when_the_error_falls_no_more(tmp_path):
    stage = _stage(patience=2, matrix_lr=0.0, other_lr=0.0)
    budget = Budget(steps=50, evaluate_seconds=0.0)
    train(stage, budget, tmp_path)
    assert stage.finished
    resumed = _stage(patience=2)
    train(resumed, budget, tmp_path)
    state = torch.load(tmp_path / "training.pt", weights_only=True)
    assert state["step"] == 3
    assert not _stage(patience=0).finished


def test_it_learns_where_trajectories_end():
    """All trajectories end in one still picture: the error falls well below that of saying nothing."""
    bank = random_bank(1)
    trajectories = _random_trajectories(bank, pairs=2)
    trajectories.states[:, -1] = trajectories.states[:1, -1, :, :1]
    for place, level in enumerate(LEVELS):
        noise = trajectories.states[:, place].astype(np.float32)
        trajectories.states[:, place] = level * noise + (1 - level) * trajectories.states[:, -1]
    both = (bank, trajectories)
    stage = OdeStage(
        OdeSettings(batch=2, matrix_lr=0.05, other_lr=0.02, clean_share=0.0), both, both, network=NETWORK,
        speech=SPEECH, cache=CACHE,
    )  # fmt: skip
    losses = [stage.step(step, 0.0)["ode"] for step in range(25)]
    assert np.mean(losses[-6:]) < 0.7 * np.mean(losses[:4])
