"""GRPO: the stochastic sampler, its probabilities, advantages, the clipped objective, rewards, and that it climbs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.samplers.few_step import denoise_chunk
from talkstream.samplers.schedule import Schedule
from talkstream.tests.training.tiny_world import random_bank, random_student
from talkstream.training.data import draw_batch
from talkstream.training.domain_rewards import ReadingReward, held_vowels, nearest_viseme, rare_visemes
from talkstream.training.experts import ExpertSettings, ExpertStage
from talkstream.training.latent_reader import mouths_of_latents
from talkstream.training.policy import clipped_loss, group_advantages
from talkstream.training.sde import Transition, noise_scale, sample_path, transition
from talkstream.training.trainer import Budget, train
from talkstream.training.world.visemes import VISEMES

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

SCHEDULE = Schedule.from_sigmas((1.0, 0.75, 0.4, 0.0))


def _random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_probability_and_its_gradient_are_the_normal_distributions():
    mean, sample = _random(2, 3, 4, 2, 2).requires_grad_(), _random(2, 3, 4, 2, 2, seed=1)
    counted = torch.tensor([False, True, True, True])
    made = Transition(mean, 0.3).log_probability(sample, counted)
    wanted = torch.distributions.Normal(mean.detach(), 0.3).log_prob(sample)[:, :, 1:].flatten(1).mean(1)
    torch.testing.assert_close(made.detach(), wanted)
    made.sum().backward()
    gradient = (sample - mean.detach()) / 0.3**2 / 36
    gradient[:, :, 0] = 0.0
    torch.testing.assert_close(mean.grad, gradient)
    other = Transition(mean.detach() + 0.1, 0.3)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(0.1, 0.3), normal(0.0, 0.3))
    found = Transition(mean.detach(), 0.3).divergence(other, counted)
    torch.testing.assert_close(found, torch.full((2,), divergence.item(), dtype=torch.float64))


def test_a_transition_is_the_formula():
    x, v = _random(1, 2, 1, 2, 2), _random(1, 2, 1, 2, 2, seed=1)
    made = transition(x, v, schedule=SCHEDULE, step=1, strength=0.7)
    scale = 0.7 * math.sqrt(0.75 / 0.25)
    drift = v + scale**2 / 1.5 * (x + 0.25 * v)
    torch.testing.assert_close(made.mean, x - 0.35 * drift)
    assert made.deviation == pytest.approx(scale * math.sqrt(0.35))
    assert noise_scale(SCHEDULE, 0, 0.7) == pytest.approx(0.7 * math.sqrt(1 / 0.25))


def _sampled(strength, velocity, noise, schedule=SCHEDULE):
    return sample_path(
        velocity, noise, schedule=schedule, strength=strength, clamp=lambda x: x,
        generator=torch.Generator().manual_seed(7),
    )  # fmt: skip


def test_without_noise_it_is_the_euler_sampler():
    noise = _random(2, 3, 2, 2, 2).float()

    def velocity(x, timestep, step):
        return 0.5 * x.flip(1) + timestep / 1000

    path = _sampled(0.0, velocity, noise)
    euler = denoise_chunk(velocity, noise, schedule=SCHEDULE, renoise=None, x0_dtype=torch.float32)
    torch.testing.assert_close(path.end, euler, atol=1e-5, rtol=1e-5)


def test_with_noise_the_states_are_samples_of_their_transitions():
    noise = _random(2, 3, 2, 2, 2).float()
    path = _sampled(0.7, lambda x, timestep, step: 0.5 * x, noise)
    assert len(path.states) == 3 and len(path.transitions) == 2
    fresh = torch.Generator().manual_seed(7)
    for step in range(2):
        made = transition(
            path.states[step], 0.5 * path.states[step], schedule=SCHEDULE, step=step, strength=0.7
        )
        drawn = made.mean + made.deviation * torch.randn(noise.shape, generator=fresh)
        torch.testing.assert_close(path.states[step + 1], drawn, atol=1e-5, rtol=1e-5)
    last = path.states[2]
    torch.testing.assert_close(path.end, last - 0.4 * 0.5 * last, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_marginals_are_kept(strength):
    """Data of variance 1 make x_t of variance (1 - t)^2 + t^2 whose exact velocity is linear: with or without noise
    the samples keep that variance at every level, but for what the steps' length costs."""
    schedule = Schedule.from_sigmas([0.9 * (1 - i / 60) for i in range(60)])

    def velocity(x, timestep, step):
        t = timestep / 1000
        return x * (2 * t - 1) / ((1 - t) ** 2 + t**2)

    noise = math.sqrt(0.82) * _random(1, 1, 1, 200, 200).float()
    path = _sampled(strength, velocity, noise, schedule)
    for step in (0, 15, 30, 45, 59):
        t = schedule.sigmas[step]
        assert path.states[step].var().item() == pytest.approx((1 - t) ** 2 + t**2, rel=0.03)
    assert path.end.var().item() == pytest.approx(1.0, rel=0.03)


def test_advantages_are_normal_within_their_group():
    reward = torch.tensor([1.0, 2.0, 3.0, 10.0, 10.0, 10.0])
    advantage = group_advantages(reward, 3)
    torch.testing.assert_close(advantage[:3], torch.tensor([-1.0, 0.0, 1.0]) * math.sqrt(1.5))
    assert torch.equal(advantage[3:], torch.zeros(3))


def test_the_clipped_loss_and_its_gradient():
    """Ratio 1: the policy gradient itself. Beyond the clip in the direction of the advantage: none."""
    old = torch.tensor([-1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    new = torch.tensor([-1.0, -0.5, -0.5, -1.5], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([2.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    loss = clipped_loss(new, old, advantage, clip=0.2)
    up, down = math.exp(0.5), math.exp(-0.5)
    assert loss.item() == pytest.approx(-(2.0 + 1.2 - up + down) / 4)
    loss.backward()
    wanted = torch.tensor([-2.0 / 4, 0.0, up / 4, -down / 4], dtype=torch.float64)
    torch.testing.assert_close(new.grad, wanted)


def _bank(domain=1):
    return replace(random_bank(3), domain=np.array([0, domain, domain]))


def _stage(reward, **settings):
    given = {
        "domain": "singing", "clips": 2, "group": 4, "window": 3, "steps": 4, "picked": 2, "updates": 1,
        "lr": 0.002, **settings,
    }  # fmt: skip
    return ExpertStage(ExpertSettings(**given), _bank(), _bank(), teacher=random_student(), reward=reward)


def _mean_of_channel(latents, batch, places):
    """Something a policy can raise: the mean of channel 3."""
    return latents[:, 3].flatten(1).mean(dim=1)


def test_the_first_update_has_ratio_one_and_learns_its_domain_alone():
    seen = []

    def reward(latents, batch, places):
        seen.append(batch.domain)
        return _mean_of_channel(latents, batch, places)

    stage = _stage(reward)
    report = stage.step(0, 0.0)
    assert report["ratio_gap"] < 1e-5 and report["divergence"] < 1e-6
    assert abs(report["policy"]) < 1e-4
    assert torch.equal(seen[0], torch.ones(8, dtype=torch.int64))
    assert _stage(reward, updates=3).step(0, 0.0)["ratio_gap"] > 1e-5


def test_reward_goes_up():
    stage = _stage(_mean_of_channel, pull=0.0, clip=1.0)
    before = stage.evaluate()["reward"]
    for step in range(8):
        report = stage.step(step, 0.0)
    assert report["divergence"] > 0
    assert stage.evaluate()["reward"] > before + 0.03


def test_resumed_equals_uninterrupted(tmp_path):
    whole, first, resumed = (_stage(_mean_of_channel) for _ in range(3))
    train(whole, Budget(steps=2), tmp_path / "whole")
    train(first, Budget(steps=2), tmp_path / "parts", stop_after_steps=1)
    train(resumed, Budget(steps=2), tmp_path / "parts")
    wanted, got = whole.student.state_dict(), resumed.student.state_dict()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"group": 1}, "at least 2"), ({"picked": 4}, "pick 1 to 3"), ({"strength": 0.0}, "without noise")],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        _stage(_mean_of_channel, **wrong)


def test_held_vowels_are_open_still_and_count_more_where_the_sound_moves():
    mouth = torch.zeros(1, 9, 5)
    mouth[0, :, 0] = torch.tensor([0.0, 0.5, 0.8, 0.8, 0.8, 0.8, 0.8, 0.1, 0.1])
    mel = torch.zeros(1, 36, 2)
    mel[0, 20:] = 1.0  # one step of the sound, into frame 5
    weight = held_vowels(mouth, mel)
    assert (weight[0] > 0).tolist() == [False, False, False, True, True, True, False, False, False]
    assert weight[0, 3] == weight[0, 4] == 1.0 and weight[0, 5] == pytest.approx(10.0)


def test_rare_shapes_are_those_a_bank_shows_least():
    shapes = torch.tensor(list(VISEMES.values()))
    assert torch.equal(nearest_viseme(shapes[None]), torch.arange(len(VISEMES))[None])
    often = [name for name in VISEMES if name not in ("TH", "CH", "OU", "RR", "FF", "rest")]
    mouth = torch.tensor([[VISEMES[name] for name in often * 3 + ["CH", "TH"]]]).numpy()
    wanted = sorted(list(VISEMES).index(name) for name in ("TH", "CH", "OU", "RR", "FF"))
    assert rare_visemes(mouth).tolist() == wanted


@pytest.mark.parametrize("domain", ["singing", "profile", "rare"])
@pytest.mark.parametrize("first", [0, 6])
def test_reward_is_minus_the_weighted_error_of_the_reading(domain, first):
    batch = draw_batch(_bank(), np.random.default_rng(0), clips=2, latents=15)
    batch.mouth[0, :, 0] = 0.9  # a vowel, held all the time
    rare = nearest_viseme(batch.mouth)[0, [5, 30]].unique()
    read = torch.rand(2, 3, 4, 3, generator=torch.Generator().manual_seed(3))
    given = []

    def reader(before, latents):
        given.append(before)
        return read

    latents = torch.randn(2, 16, 3, 4, 4)
    reward = ReadingReward(domain, reader, rare)(latents, batch, range(first, first + 3))
    before = batch.latents[:, :, first - 1] if first else latents[:, :, 0]
    assert torch.equal(given[0][:, :, 0], before) and torch.equal(given[0][:, :, 1:], latents[:, :, :-1])
    frames = {
        "singing": held_vowels(batch.mouth, batch.mel),
        "profile": torch.ones(2, 57),
        "rare": torch.isin(nearest_viseme(batch.mouth), rare).float(),
    }[domain]
    names = 1 if domain == "singing" else 3
    start = max(first, 1)
    frames = frames[:, 4 * start - 3 : 4 * (first + 2) + 1]
    truth = mouths_of_latents(batch.mouth)[:, start : first + 3].flatten(1, 2)[..., :names]
    error = (read[:, start - first :].flatten(1, 2)[..., :names] - truth).square().sum(-1)
    wanted = -(frames * error).sum(1) / (names * frames.sum(1)).clamp_min(1e-6)
    torch.testing.assert_close(reward, wanted)
    assert reward[0] < 0
