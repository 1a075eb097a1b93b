"""Rollouts: the portrait is their first latent, gradients stay where they belong."""

from __future__ import annotations

import pytest
import torch

from talkstream.samplers.schedule import Schedule
from talkstream.tests.training.tiny_world import CACHE, LATENTS, SIGMAS, SPEECH, random_student
from talkstream.training.conditions import PortraitCondition
from talkstream.training.rollout import Rollout, roll_out

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

SCHEDULE = Schedule.from_sigmas(SIGMAS)


def _inputs(batch=1):
    generator = torch.Generator().manual_seed(3)
    reference = torch.randn(batch, 16, 1, 4, 4, generator=generator)
    mel = torch.rand(batch, 4 * (4 * LATENTS - 3), SPEECH.bins, generator=generator)
    return reference, mel


def _rollout(student, reference, speech):
    return Rollout(
        student, schedule=SCHEDULE, cache=CACHE, condition=PortraitCondition(reference), speech_BTV=speech,
        generator=torch.Generator().manual_seed(9),
    )  # fmt: skip


def test_reference_is_latent_0():
    student = random_student().requires_grad_(False)
    reference, mel = _inputs()
    rolled = roll_out(_rollout(student, reference, student.features(mel)), 2)
    assert torch.equal(rolled[:, :, :1], reference)
    assert rolled.shape[2] == 6


def test_only_the_exit_step_of_the_last_chunk_has_a_gradient():
    student = random_student()
    reference, mel = _inputs(batch=2)
    speech = student.features(mel)
    rollout = _rollout(student, reference, speech)
    before = roll_out(rollout, 2)
    current = rollout.next_chunk(exit_step=1)
    assert not before.requires_grad
    gradient = torch.autograd.grad(current.square().sum(), speech)[0]
    assert gradient[:, 6:9].abs().max() > 0
    assert gradient[:, :6].abs().max() == 0
    assert gradient[:, 9:].abs().max() == 0
