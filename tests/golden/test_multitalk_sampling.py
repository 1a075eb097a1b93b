"""Schedules, steps and guidance of FlashTalk and InfiniteTalk, from the recorded predictions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from talkstream.networks.multitalk_profiles import FLASHTALK, INFINITETALK
from talkstream.samplers.few_step import denoise_chunk
from talkstream.samplers.guidance import Guidance, GuidedVelocity, Projection, RunningDifference
from talkstream.samplers.schedule import ECHOTORRENT_4, Schedule, shifted_sigmas, spaced_sigmas
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, close


@pytest.fixture(scope="module")
def flash(golden_file) -> MultiTalkGolden:
    return MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def infinite(golden_file) -> MultiTalkGolden:
    return MultiTalkGolden(golden_file("infinitetalk_tiny.safetensors"))


def impose(motion_CTHW: Tensor):
    """Motion latents in front, as a clamp."""
    return lambda x: torch.cat([motion_CTHW[None], x[:, :, motion_CTHW.shape[1] :]], dim=2)


def thousandths(sigmas) -> Tensor:
    return 1000 * torch.tensor(sigmas, dtype=torch.float64).float()


def test_timestep_tables(flash, infinite):
    """Every recorded table within 1e-3."""
    for steps in (2, 4):
        close(thousandths(shifted_sigmas(steps, 5.0)), flash[f"aux.timesteps_{steps}"], 1e-3)
    close(thousandths(FLASHTALK.sigmas), flash["in.timesteps"], 1e-3)
    close(thousandths(spaced_sigmas(8, 5.0)), flash["aux.timesteps_8"], 1e-3)
    for steps, shift in ((40, 7), (4, 2), (8, 2), (2, 7)):
        recorded = infinite[f"aux.timesteps_{steps}_shift{shift}"]
        close(thousandths(spaced_sigmas(steps, float(shift))), recorded, 1e-3)
    assert FLASHTALK.sigmas == pytest.approx(shifted_sigmas(4, 5.0), abs=1e-12)
    assert INFINITETALK.sigmas == pytest.approx(spaced_sigmas(40, 7.0), abs=1e-12)


@pytest.mark.parametrize("chunk", [0, 1])
def test_flashtalk_steps_from_recorded_predictions(flash, chunk):
    """Fresh noise and clean motion latents: every input within 2e-6, the result too."""
    steps = [f"chunk{chunk}.step{step}" for step in range(4)]
    inputs = []

    def velocity(x: Tensor, timestep: float, step: int) -> Tensor:
        inputs.append(x)
        assert timestep == pytest.approx(float(flash[f"{steps[step]}.t"]), abs=1e-3)
        return flash[f"{steps[step]}.pred"][None]

    out = denoise_chunk(
        velocity,
        flash[f"chunk{chunk}.noise_init"][None],
        schedule=ECHOTORRENT_4,
        renoise=lambda step: flash[f"{steps[step]}.noise"][None],
        clamp=impose(flash[f"chunk{chunk}.motion_latent_in"]),
        x0_dtype=torch.float32,
    )
    for name, x in zip(steps, inputs, strict=True):
        close(x[0], flash[f"{name}.x_in"], 2e-6)
    close(out[0], flash[f"chunk{chunk}.latent_out"], 2e-6)


RUNS = [("single", 0), ("single", 1), ("double", 0), ("double", 1), ("double_cfg", 0)]


@pytest.mark.parametrize(("run", "chunk"), RUNS)
def test_infinitetalk_steps_from_recorded_predictions(infinite, run, chunk):
    """Euler steps with the guidance of the run: every input within 5e-6, the result within 1e-5."""
    guidance = Guidance(text=5.0, audio=4.0) if run == "double_cfg" else Guidance()
    inputs, called = [], []

    def velocity(x: Tensor, timestep: float, step: int, branch: str) -> Tensor:
        inputs.append(x)
        called.append(branch)
        return infinite[f"{run}.chunk{chunk}.step{step}.pred_{branch}"][None]

    out = denoise_chunk(
        GuidedVelocity(velocity, guidance),
        infinite[f"{run}.chunk{chunk}.noise_init"][None],
        schedule=Schedule.from_sigmas(spaced_sigmas(2, 7.0)),
        renoise=None,
        clamp=impose(infinite[f"{run}.chunk{chunk}.motion_latent"]),
        x0_dtype=torch.float32,
    )
    calls = len(guidance.branches)
    assert called == [*guidance.branches] * 2 and calls == (3 if run == "double_cfg" else 1)
    for i, x in enumerate(inputs):
        close(x[0], infinite[f"{run}.chunk{chunk}.step{i // calls}.x_in"], 5e-6)
    close(out[0], infinite[f"{run}.chunk{chunk}.latent_out"], 1e-5)


def test_projected_guidance(infinite):
    """Two updates of one running difference, the limit active, within 1e-5."""
    running = RunningDifference(Projection(threshold=30.0))
    for i in (0, 1):
        close(
            running.project(infinite[f"apg.diff{i}"][None], infinite["apg.pred"][None])[0],
            infinite[f"apg.out{i}"],
            1e-5,
        )


def test_guidance_formulas():
    """Two and three branches against the formulas, with and without projection."""
    parts = {name: torch.randn(1, 2, 3, 2, 2) for name in ("cond", "drop_text", "drop_audio", "uncond")}

    def guided(guidance: Guidance) -> Tensor:
        return GuidedVelocity(lambda x, t, step, branch: parts[branch], guidance)(torch.zeros(1), 500.0, 0)

    cond, text, audio, none = parts.values()
    close(guided(Guidance(text=5, audio=4)), none + 5 * (cond - text) + 4 * (text - none), 1e-5)
    close(guided(Guidance(audio=2)), audio + 2 * (cond - audio), 1e-6)
    assert torch.equal(guided(Guidance()), cond)
    settings = Projection(threshold=0.5)
    expected = cond + 4 * RunningDifference(settings).project(cond - text, cond)
    expected = expected + 3 * RunningDifference(settings).project(text - none, cond)
    close(guided(Guidance(text=5, audio=4, projection=settings)), expected, 1e-5)
    with pytest.raises(ValueError, match="audio guidance is -1"):
        Guidance(audio=-1)
