"""Distillation: every variant runs and resumes, gradients are those of the formulas, only what should move moves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.samplers.schedule import Schedule
from talkstream.tests.training.tiny_world import (
    CACHE,
    ECHO_CACHE,
    ECHO_SIGMAS,
    LIPSYNC_NETWORK,
    SIGMAS,
    flat_state,
    random_bank,
    random_student,
)
from talkstream.training.checkpoints import load_training_state, save_training_state
from talkstream.training.config import parse
from talkstream.training.dmd import DistilSettings, DistilStage, draw_levels
from talkstream.training.latent_reader import frames_of_latents, with_predecessors
from talkstream.training.parallel import draw

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

BASE = {"batch": 2, "student_every": 2, "window": 6}
VARIANTS = {
    "self_forcing": {"guidance_rule": "none"},
    "constant": {"guidance_rule": "constant", "critic_loss": "x0", "optimiser": "adamw"},
    "reward": {"reward": "reader", "reader_steps": 2},
    "shares": {"reading_share": 1.0, "regression_share": 0.5, "reader_steps": 2, "dmd_share": 0.1},
    "blinks": {"blink_share": 2.0, "reader_steps": 2},
    "acc": {"guidance_rule": "acc", "oral_rule": "zero"},
    "self_correction": {"rollout": "self_correction", "corrected_chunks": 3},
    "long_tail": {
        "rollout": "long_tail", "horizon": 18, "long_after": 6, "switch_share": 0.7, "recache": 3,
    },
}  # fmt: skip
ECHO_VARIANTS = {
    "echo": {"window": 8, "guidance_rule": "acc"},
    "echo_correction": {"window": 8, "rollout": "self_correction", "corrected_chunks": 2},
    "echo_long_tail": {
        "window": 4, "guidance_rule": "acc", "rollout": "long_tail", "horizon": 24, "long_after": 4,
        "switch_share": 0.7, "recache": 4,
    },
}  # fmt: skip


def make_stage(*, echo=False, lip_sync=False, experts=None, **values):
    network = {"network": LIPSYNC_NETWORK} if lip_sync else {}
    bank, held_out = (random_bank(3, seed=seed, lip_sync=lip_sync) for seed in (0, 1))
    bank = replace(bank, eyes=np.random.default_rng(2).random(bank.mouth.shape[:2], np.float32))
    return DistilStage(
        parse(DistilSettings, BASE | values, "here"), bank, held_out,
        student=random_student(**network), teacher=random_student(seed=5, **network), experts=experts,
        cache=ECHO_CACHE if echo else CACHE, schedule=Schedule.from_sigmas(ECHO_SIGMAS if echo else SIGMAS),
    )  # fmt: skip


CASES = [
    *(pytest.param(False, values, id=name) for name, values in VARIANTS.items()),
    *(pytest.param(True, values, id=name) for name, values in ECHO_VARIANTS.items()),
]


@pytest.mark.parametrize(("echo", "values"), CASES)
def test_resumed_equals_uninterrupted(echo, values, tmp_path):
    """Three steps at once and as two and one: the same networks, averages and streams, bit for bit."""
    whole, first, second = (make_stage(echo=echo, **values) for _ in range(3))
    reports = [whole.step(step, 0.5) for step in range(3)]
    assert all(math.isfinite(value) for report in reports for value in report.values())
    for step in range(2):
        first.step(step, 0.5)
    save_training_state(tmp_path / "training.pt", first, step=2, elapsed=1.0)
    assert load_training_state(tmp_path / "training.pt", second) == (2, 1.0)
    second.step(2, 0.5)
    wanted, got = flat_state(whole.state_dict()), flat_state(second.state_dict())
    assert wanted.keys() == got.keys()
    for name, value in wanted.items():
        assert torch.equal(value, got[name]) if isinstance(value, torch.Tensor) else value == got[name], name


def _stepped(stage, step):
    before = {name: tensor.clone() for name, tensor in flat_state(stage.state_dict()).items()
              if isinstance(tensor, torch.Tensor)}  # fmt: skip
    report = stage.step(step, 0.5)
    after = flat_state(stage.state_dict())
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    return report, moved


def test_the_student_moves_on_its_own_steps_only():
    """Critic every step, student every second one after the warm-up; text matrix, ear and teacher never."""
    stage = make_stage(critic_warmup=1, ema_from=100)
    teacher = [p.clone() for p in stage._real._general._network.parameters()]
    expected = {0: False, 1: True, 2: False, 3: True}
    for step, learns in expected.items():
        report, moved = _stepped(stage, step)
        assert ("dmd" in report) == learns
        assert any(name.startswith("student") for name in moved) == learns
        assert any(name.startswith("fake") for name in moved)
        still = ("encoder", "network.text_embedding.0.weight")
        assert not [name for name in moved if any(part in name for part in still)]
        assert all(math.isfinite(value) for value in report.values())
    assert all(
        torch.equal(a, b) for a, b in zip(teacher, stage._real._general._network.parameters(), strict=True)
    )


def test_the_share_of_the_blinks_adds_the_gradient_of_their_error():
    """d loss / d X grows by share * d mean (read - true eyes)^2 / d X, over what the student made."""
    plain, blinks = make_stage(), make_stage(blink_share=3.0, reader_steps=2)
    window = plain._windows.draw(0, draw(0, 0), learns=False)
    made = window.latents.clone().requires_grad_()
    losses = [
        stage.student_loss(
            replace(window, latents=made), np.random.default_rng(0), torch.Generator().manual_seed(0)
        )[0]
        for stage in (plain, blinks)
    ]
    read = blinks._eye_reader(with_predecessors(made), made)
    error = (read - frames_of_latents(window.batch.eyes[..., None])[:, list(window.places)])[:, 1:]
    expected = torch.autograd.grad(losses[0] + 3.0 * error.square().mean(), made)[0]
    torch.testing.assert_close(torch.autograd.grad(losses[1], made)[0], expected)


def test_blinks_need_a_bank_that_tells_them():
    with pytest.raises(ValueError, match="encode the clips again"):
        DistilStage(
            parse(DistilSettings, BASE | {"blink_share": 1.0}, "here"), random_bank(3), random_bank(3),
            student=random_student(), teacher=random_student(seed=5), cache=CACHE,
            schedule=Schedule.from_sigmas(SIGMAS),
        )  # fmt: skip


def test_the_average_is_the_student_until_it_starts():
    stage = make_stage(student_every=1, ema_from=2, ema_decay=0.9)
    stage.step(0, 0.5)
    state = stage.state_dict()
    assert all(torch.equal(state["student"][k], v) for k, v in state["average"].items() if k != "updates")
    stage.step(2, 0.5)
    state = stage.state_dict()
    assert any(not torch.equal(state["student"][k], v) for k, v in state["average"].items() if k != "updates")


class Constant:
    """A score that always says the same."""

    def __init__(self, heard, deaf):
        self.heard, self.deaf = heard, deaf

    def __call__(self, noisy, sigma, batch, latents, *, hears):
        value = self.heard if hears is True else self.deaf
        return value.expand_as(noisy).clone()


def test_the_gradient_in_x0_is_the_formula():
    """d loss / d X = share * (fake - guided real) / (mean |X - real| + 1e-6) / (scored elements * clips)."""
    stage = make_stage(guidance_rule="constant", audio_guidance=3.0, dmd_share=0.5)
    generator = torch.Generator().manual_seed(2)
    heard, deaf, fake = (torch.randn(1, 16, 6, 4, 4, generator=generator) for _ in range(3))
    stage._real, stage._critic = Constant(heard, deaf), Constant(fake, fake)
    window = stage._windows.draw(0, draw(0, 0), learns=False)
    made = window.latents.clone().requires_grad_()
    loss, _ = stage.student_loss(replace(window, latents=made), np.random.default_rng(0), generator)
    loss.backward()
    real = deaf + 3.0 * (heard - deaf)
    for i in range(2):
        scale = (window.latents[i] - real[0])[:, 1:].abs().mean() + 1e-6
        expected = 0.5 * (fake - real)[0, :, 1:] / scale / (16 * 5 * 16) / 2
        torch.testing.assert_close(made.grad[i, :, 1:], expected, atol=1e-9, rtol=1e-4)
    assert made.grad[:, :, 0].abs().max() == 0  # the given portrait


def test_the_reward_weighs_the_clips():
    """With std(beta C) 1 two clips of C = -1, 1 weigh 2 e^-1 / (e + e^-1) and 2 e / (e + e^-1)."""
    stage = make_stage(guidance_rule="none")
    plain = make_stage(guidance_rule="none")
    stage._confidence = lambda latents, batch, places: torch.tensor([-1.0, 1.0])
    window = stage._windows.draw(0, draw(0, 0), learns=False)
    grads = []
    for judge in (plain, stage):
        made = window.latents.clone().requires_grad_()
        seeded = torch.Generator().manual_seed(3)
        judge.student_loss(replace(window, latents=made), np.random.default_rng(0), seeded)[0].backward()
        grads.append(made.grad)
    weights = torch.softmax(torch.tensor([-1.0, 1.0]), 0) * 2
    torch.testing.assert_close(grads[1], grads[0] * weights.view(2, 1, 1, 1, 1))


def test_levels_follow_their_law_and_their_interval():
    random = np.random.default_rng(0)
    drawn = draw_levels(random, 4000, shift=5.0, interval=(0.0, 1.0))
    inside = sum(0.556 <= t <= 0.882 for t in drawn) / len(drawn)
    assert inside == pytest.approx(0.4, abs=0.02)  # u in 0.2..0.6
    assert min(drawn) >= 0.001 and max(drawn) <= 0.999
    late = draw_levels(random, 200, shift=5.0, interval=(0.0, 0.833333))
    assert max(late) <= 0.833334 and min(late) < 0.2
    early = draw_levels(random, 200, shift=5.0, interval=(0.833333, 1.0))
    assert min(early) >= 0.833332


def test_an_expert_judges_its_domain():
    """Where every clip is of domain 1, the general teacher is not asked and the expert decides the update."""

    def stage_with(expert):
        stage = make_stage(guidance_rule="none", experts={1: expert})
        of_any_domain = stage._windows.draw

        def of_domain(step, drawn, *, learns):
            window = of_any_domain(step, drawn, learns=learns)
            return replace(window, batch=replace(window.batch, domain=torch.tensor([1, 1])))

        stage._windows.draw = of_domain
        stage.step(0, 0.5)
        return stage.student.state_dict()["network.head.head.weight"]

    same, other = stage_with(random_student(seed=5)), stage_with(random_student(seed=8))
    general = make_stage(guidance_rule="none")
    general.step(0, 0.5)
    assert torch.equal(same, general.student.state_dict()["network.head.head.weight"])
    assert not torch.equal(other, same)


def test_a_dubbing_student_learns_from_its_first_latent():
    stage = make_stage(lip_sync=True, guidance_rule="constant")
    window = stage._windows.draw(0, draw(0, 0), learns=True)
    assert all(window.scored)
    report, moved = _stepped(stage, 0)
    assert any(name.startswith("student") for name in moved)
    assert set(stage.evaluate()) == {"rollout_mse", "deviation"}
    assert math.isfinite(report["dmd"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window": 7}, "window is 7 latents; expected whole chunks of 3"),
        ({"window": 18}, "window is 18 latents; the clips have 15"),
        ({"rollout": "self_correction", "corrected_chunks": 6}, "have 1 to 5"),
        ({"rollout": "long_tail", "horizon": 10}, "whole windows of 6"),
        ({"rollout": "long_tail", "tail_latents": 7}, "tail of 1 to 6"),
        ({"rollout": "long_tail", "horizon": 18, "regression_share": 1.0}, "set it to 0"),
        ({"rollout": "long_tail", "recache": 2}, "recache is 2 latents"),
        ({"guidance_rule": "windowed"}, "expected one of"),
        ({"reward": "syncnet"}, "set syncnet: in the recipe"),
        ({"student_every": 0}, "expected at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        make_stage(**values)
