"""Schedules, flow algebra, noise and the denoising loop against their formulas."""

import logging

import pytest
import torch

from talkstream.samplers.few_step import denoise_chunk
from talkstream.samplers.flow_matching import (
    add_noise,
    noise_from_velocity,
    velocity_from_x0,
    velocity_target,
    x0_from_velocity,
)
from talkstream.samplers.noise import GivenNoise, RecordedNoise, SeededNoise
from talkstream.samplers.schedule import (
    ECHOTORRENT_4,
    LIVETALK_4,
    SYNC_WINDOW_2,
    Schedule,
    shifted_sigmas,
    warped_sigmas,
)

SHAPE = (1, 2, 3, 4, 5)


def test_presets_hold_the_published_numbers():
    assert LIVETALK_4.sigmas == pytest.approx((1, 0.9375, 5 / 6, 0.625, 0), abs=1e-12)
    assert LIVETALK_4.timesteps == (1000.0, 936.0, 832.0, 624.0)
    assert ECHOTORRENT_4.timesteps == pytest.approx((1000, 937.5, 2500 / 3, 625), abs=1e-9)
    assert SYNC_WINDOW_2.sigmas == (0.999, 0.769, 0.0)
    assert SYNC_WINDOW_2.timesteps == (999.0, 769.0)


def test_shift_and_warp_agree():
    assert shifted_sigmas(2, 5.0) == pytest.approx((1, 5 / 6, 0))
    assert shifted_sigmas(3, 1.0) == pytest.approx((1, 2 / 3, 1 / 3, 0))
    assert warped_sigmas((1000, 750, 500, 250), shift=5.0) == pytest.approx(shifted_sigmas(4, 5.0))
    assert warped_sigmas((1000, 500, 0), shift=5.0) == pytest.approx((1, 5 / 6, 0))


def test_missing_final_zero_is_appended_with_a_log_line(caplog):
    with caplog.at_level(logging.INFO):
        schedule = Schedule.from_sigmas(torch.tensor([1.0, 0.5]))
    assert schedule.sigmas == (1.0, 0.5, 0.0)
    assert schedule.steps == 2
    assert "appended" in caplog.text


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        (torch.ones(2, 2), "one dimension"),
        ([], "at least one"),
        ([0.0], "at least one"),
        ([1.0, 1.0, 0.0], "strictly falling"),
        ([0.5, 0.7, 0.0], "strictly falling"),
        ([0.5, -0.1, 0.0], "strictly falling"),
        ([14.6, 1.0, 0.0], "up to 1"),
        ([1.0, float("nan"), 0.0], "finite"),
    ],
)
def test_bad_sigmas_say_what_is_wrong(sigmas, message):
    with pytest.raises(ValueError, match=message):
        Schedule.from_sigmas(sigmas)


def test_unknown_rounding_and_mismatched_timesteps():
    with pytest.raises(ValueError, match="bf16"):
        Schedule.from_sigmas([1.0, 0.0], rounding="fp8")
    with pytest.raises(ValueError, match="one per step"):
        Schedule(sigmas=(1.0, 0.0), timesteps=(1000.0, 500.0))


def test_flow_algebra_is_consistent():
    x0, noise = torch.randn(SHAPE, dtype=torch.float64), torch.randn(SHAPE, dtype=torch.float64)
    sigma = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64).view(1, 1, 3, 1, 1)
    x = add_noise(x0, noise, sigma, dtype=torch.float64)
    velocity = velocity_target(x0, noise)
    torch.testing.assert_close(x, (1 - sigma) * x0 + sigma * noise, rtol=0, atol=1e-14)
    torch.testing.assert_close(
        x0_from_velocity(x, velocity, sigma, dtype=torch.float64), x0, rtol=0, atol=1e-14
    )
    torch.testing.assert_close(
        noise_from_velocity(x, velocity, sigma, dtype=torch.float64), noise, rtol=0, atol=1e-14
    )
    torch.testing.assert_close(
        velocity_from_x0(x, x0, sigma, dtype=torch.float64), velocity, rtol=0, atol=1e-13
    )


def test_float64_algebra_rounds_once():
    """bf16 inputs with float64 arithmetic differ from the exact value by one rounding only."""
    x, velocity = torch.randn(SHAPE).bfloat16(), torch.randn(SHAPE).bfloat16()
    exact = (x.double() - 0.769 * velocity.double()).bfloat16()
    assert torch.equal(x0_from_velocity(x, velocity, 0.769, dtype=torch.float64), exact)


def _loop(schedule, **kwargs):
    noises = [torch.full(SHAPE, 0.1 * (i + 1)) for i in range(schedule.steps)]
    calls = []

    def velocity(x, timestep, step):
        calls.append((timestep, step))
        return 0.5 * x + step

    start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    return (
        denoise_chunk(velocity, start, schedule=schedule, renoise=lambda i: noises[i], **kwargs),
        start,
        noises,
        calls,
    )


def test_denoise_chunk_follows_the_formula():
    clamped = torch.zeros(SHAPE)
    clamped[:, :, 0] = 7.0

    def clamp(x):
        x = x.clone()
        x[:, :, 0] = 7.0
        return x

    result, x, noises, calls = _loop(LIVETALK_4, clamp=clamp)
    x = x.double()
    for i, sigma in enumerate(LIVETALK_4.sigmas[:-1]):
        x[:, :, 0] = 7.0
        x0 = x - sigma * (0.5 * x + i)
        after = LIVETALK_4.sigmas[i + 1]
        x = (1 - after) * x0 + after * noises[i].double()
    x0[:, :, 0] = 7.0
    torch.testing.assert_close(result.double(), x0, rtol=0, atol=1e-5)
    assert calls == list(zip(LIVETALK_4.timesteps, range(4), strict=True))


def test_exit_step_stops_and_keeps_only_its_gradient():
    weight = torch.tensor(0.3, requires_grad=True)
    seen = []

    def velocity(x, timestep, step):
        seen.append((step, torch.is_grad_enabled()))
        return weight * x

    start = torch.randn(SHAPE)
    noise = torch.randn(SHAPE)
    x0 = denoise_chunk(velocity, start, schedule=LIVETALK_4, renoise=lambda i: noise, exit_step=1)
    assert seen == [(0, False), (1, True)]
    first = start - weight.detach() * start
    x = 0.0625 * first + 0.9375 * noise
    x0.sum().backward()
    torch.testing.assert_close(weight.grad, -(0.9375 * x).sum(), rtol=1e-5, atol=1e-4)


def test_finish_steps_runs_all_steps_and_returns_the_exit_x0():
    stopped, *_ = _loop(ECHOTORRENT_4, exit_step=1)
    finished, *_, calls = _loop(ECHOTORRENT_4, exit_step=1, finish_steps=True)
    assert torch.equal(stopped, finished)
    assert [step for _, step in calls] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="exit_step 4"):
        _loop(ECHOTORRENT_4, exit_step=4)


def test_on_step_sees_every_step_and_can_stop_the_loop():
    class Stop(Exception):
        pass

    steps = []

    def on_step(step, x0):
        steps.append(step)
        if step == 1:
            raise Stop

    with pytest.raises(Stop):
        _loop(LIVETALK_4, on_step=on_step)
    assert steps == [0, 1]


def test_input_is_not_written_and_dtype_is_kept():
    start = torch.randn(SHAPE).bfloat16()
    before = start.clone()
    result = denoise_chunk(
        lambda x, t, i: x,
        start,
        schedule=SYNC_WINDOW_2,
        renoise=lambda i: torch.zeros(SHAPE),
        x0_dtype=torch.float64,
    )
    assert torch.equal(start, before)
    assert result.dtype == torch.bfloat16


def test_seeded_noise_is_keyed_not_ordered():
    noise = SeededNoise(5)
    late = noise.renoise(1000, 2, SHAPE)
    assert torch.equal(noise.initial(0, SHAPE), SeededNoise(5).initial(0, SHAPE))
    assert torch.equal(late, SeededNoise(5).renoise(1000, 2, SHAPE))
    others = [
        SeededNoise(6).renoise(1000, 2, SHAPE),
        SeededNoise(5, segment=1).renoise(1000, 2, SHAPE),
        noise.renoise(1001, 2, SHAPE),
        noise.renoise(1000, 1, SHAPE),
        noise.initial(1000, SHAPE),
    ]
    assert all(not torch.equal(late, other) for other in others)
    wide = noise.initial(3, (1, 16, 3, 64, 64))
    assert abs(wide.mean()) < 0.01
    assert abs(wide.std() - 1) < 0.01


def test_seeded_noise_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    SeededNoise(2**64 - 1).initial(0, SHAPE)
    assert torch.equal(before, torch.random.get_rng_state())


def test_recorded_and_given_noise():
    draws = {(0, 0): torch.randn(SHAPE), (0, 1): torch.randn(SHAPE)}
    recorded = RecordedNoise(draws)
    assert torch.equal(recorded.renoise(0, 0, SHAPE), draws[0, 1])
    with pytest.raises(ValueError, match="chunk 1, step 0"):
        recorded.initial(1, SHAPE)
    with pytest.raises(ValueError, match="shape"):
        recorded.initial(0, (1, 2, 3, 4, 6))
    clip = torch.randn(1, 2, 6, 4, 5)
    given = GivenNoise(clip, renoises=SeededNoise(1))
    assert torch.equal(given.initial(1, SHAPE), clip[:, :, 3:])
    assert torch.equal(given.renoise(1, 0, SHAPE), SeededNoise(1).renoise(1, 0, SHAPE))
    with pytest.raises(ValueError, match="6 latents"):
        given.initial(2, SHAPE)
