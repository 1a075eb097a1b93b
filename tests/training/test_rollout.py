"""Rollouts: the growing cache gives what a streaming ring cache gives, gradients stay where they belong."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.kv_cache import CLEAN_PASS, RingKVCache
from talkstream.samplers.few_step import denoise_chunk
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


@torch.no_grad()
def _streamed(student, reference, speech, chunks):
    """The same stream on the ring cache, written out."""
    cache = RingKVCache(CACHE, layers=4, dim=32, heads=1, grid=(2, 2), dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(9)
    outputs = []
    for index in range(chunks):
        first = 3 * index
        mask = torch.tensor([0.0 if first + i == 0 else 1.0 for i in range(3)]).view(1, 1, 3, 1, 1)
        known = torch.cat([reference.expand(-1, -1, 3, -1, -1), mask.expand(-1, -1, -1, 4, 4)], dim=1)
        cache.begin_chunk(3)

        def velocity(x, timestep, step, first=first, known=known):
            cache.begin_pass(step)
            with torch.autocast("cpu", torch.bfloat16):
                return student(
                    torch.cat([x, known], dim=1), timestep_BT=torch.full((1, 1), timestep),
                    speech_BTV=speech[:, first : first + 3], cache=cache,
                ).float()  # fmt: skip

        def draw(step=0):
            return torch.randn((1, 16, 3, 4, 4), generator=generator)

        clamp = (lambda x: torch.cat([reference, x[:, :, 1:]], dim=2)) if index == 0 else None
        x0 = denoise_chunk(
            velocity, draw(), schedule=SCHEDULE, renoise=draw, clamp=clamp, x0_dtype=torch.float32
        )
        velocity(x0, 0.0, CLEAN_PASS)
        cache.end_chunk()
        outputs.append(x0)
    return torch.cat(outputs, dim=2)


def test_training_rollout_equals_streaming_on_the_ring():
    student = random_student().requires_grad_(False)
    reference, mel = _inputs()
    with torch.autocast("cpu", torch.bfloat16):
        speech = student.features(mel)
    grown = roll_out(_rollout(student, reference, speech), 5)
    torch.testing.assert_close(grown, _streamed(student, reference, speech, 5), atol=0.05, rtol=0.02)
    assert grown.std() > 0.3


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
