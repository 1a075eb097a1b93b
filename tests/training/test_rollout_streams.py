"""A rollout is a stream: equal frames for equal noise, in both cache modes; what exits and re-caches leave."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from talkstream.networks.cache_spec import CacheSpec
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.network import LocalNetwork
from talkstream.streaming.reference import ReferenceLatents
from talkstream.streaming.session import StreamSession
from talkstream.streaming.spec import StreamSpec
from talkstream.tests.training.tiny_world import (
    CACHE,
    ECHO_CACHE,
    ECHO_SIGMAS,
    SIGMAS,
    SPEECH,
    flat_state,
    random_student,
)
from talkstream.training.conditions import PortraitCondition
from talkstream.training.mini import mini_profile
from talkstream.training.rollout import Rollout, roll_out

CHUNKS, RATE = 6, 16000
SPECS = {
    "clean": (CACHE, SIGMAS),
    "clean_own_sink": (replace(CACHE, sink_source="reference_then_first_generated", history=(3, 0)), SIGMAS),
    "hybrid": (ECHO_CACHE, ECHO_SIGMAS),
    "full_causal": (replace(ECHO_CACHE, history=(12,)), ECHO_SIGMAS),
    "full_bidirectional": (replace(ECHO_CACHE, history=(0,)), ECHO_SIGMAS),
    "first_block_sink": (replace(ECHO_CACHE, sink=4), ECHO_SIGMAS),
    "no_sink": (replace(ECHO_CACHE, sink=0), ECHO_SIGMAS),
}  # fmt: skip


class Inputs:
    """A float64 student, a portrait and a voice of six chunks."""

    def __init__(self, spec: CacheSpec, sigmas: tuple[float, ...], batch: int = 1) -> None:
        self.spec, self.schedule = spec, Schedule.from_sigmas(sigmas)
        self.student = random_student().double().requires_grad_(False)
        generator = torch.Generator().manual_seed(3)
        latents = CHUNKS * spec.chunk
        self.reference = torch.randn(batch, 16, 1, 4, 4, generator=generator, dtype=torch.float64)
        mel = torch.rand(
            2, batch, 4 * (4 * latents - 3), SPEECH.bins, generator=generator, dtype=torch.float64
        )
        self.speech, self.other_speech = (self.student.features(one) for one in mel)

    def rollout(self, seed: int = 9) -> Rollout:
        return Rollout(
            self.student, schedule=self.schedule, cache=self.spec, condition=PortraitCondition(self.reference),
            speech_BTV=self.speech, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip

    def tokens(self, first_latent: int, latents: int) -> torch.Tensor:
        return self.student.network.audio_proj(self.speech[:, first_latent : first_latent + latents])

    def session(self) -> StreamSession:
        network = LocalNetwork(self.student.network)
        frames = 4 * CHUNKS * self.spec.chunk - 3
        spec = StreamSpec(
            profile=replace(mini_profile(), x0_dtype="float32"), schedule=self.schedule, cache_spec=self.spec,
            latent_height=4, latent_width=4, samples=frames * RATE // 25, sample_rate=RATE,
        )  # fmt: skip
        return StreamSession(
            spec, network, cache=network.make_cache(self.spec, spec.grid), speech=self,
            reference=ReferenceLatents(self.reference), noise=NoiseInOrder(9),
        )  # fmt: skip


class NoiseInOrder:
    """The noise of a rollout: one generator, drawn from in the order of the calls."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def initial(self, chunk: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator)

    def renoise(self, chunk: int, step: int, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator)


@pytest.mark.parametrize("name", SPECS)
@torch.no_grad()
def test_a_rollout_gives_the_frames_of_a_stream(name):
    """Leaving at the last step and never leaving both give what StreamSession makes on its ring."""
    inputs = Inputs(*SPECS[name])
    with inputs.session() as session:
        streamed = torch.cat([chunk.latent_BCTHW for chunk in session.chunks()], dim=2)
    whole = roll_out(inputs.rollout(), CHUNKS)
    leaving = inputs.rollout()
    left = torch.cat([leaving.next_chunk(exit_step=inputs.schedule.steps - 1) for _ in range(CHUNKS)], dim=2)
    torch.testing.assert_close(whole, streamed, atol=2e-6, rtol=0)
    assert torch.equal(left, whole)
    assert whole[:, :, 1:].std() > 0.3


@pytest.mark.parametrize("name", ["hybrid", "first_block_sink"])
@torch.no_grad()
def test_an_early_exit_still_fills_every_steps_cache(name):
    """In per_step mode the exit picks a call; keys, values and sinks are those of a stream that ran to its end."""
    inputs = Inputs(*SPECS[name])
    whole, leaving = inputs.rollout(), inputs.rollout()
    for _ in range(3):
        whole.next_chunk()
        leaving.next_chunk(exit_step=1)
    wanted, got = flat_state(whole.cache.state_dict()), flat_state(leaving.cache.state_dict())
    assert wanted.keys() == got.keys()
    assert {"past.0.3.k", "past.2.0.v", "sink.1.0.k"} <= wanted.keys() and "past.1.0.k" not in wanted
    for name, value in wanted.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(got[name])), name


@pytest.mark.parametrize("exit_step", [0, 2, 3])
def test_only_the_exit_call_of_a_per_step_chunk_has_a_gradient(exit_step):
    """Nothing comes from earlier chunks; the value is that step's x0, its gradient that of one call."""
    inputs = Inputs(*SPECS["hybrid"], batch=2)
    rollout = inputs.rollout()
    with torch.no_grad():
        rollout.next_chunk(exit_step=exit_step)
    speech = rollout._speech = inputs.speech.clone().requires_grad_()
    calls, forward = [], inputs.student.forward

    def noted(*given, **named):
        calls.append(torch.is_grad_enabled())
        return forward(*given, **named)

    inputs.student.forward = noted
    made = rollout.next_chunk(exit_step=exit_step)
    assert calls == [step == exit_step for step in range(4)]
    gradient = torch.autograd.grad(made.square().sum(), speech)[0]
    assert gradient[:, 4:8].abs().max() > 0
    assert gradient[:, :4].abs().max() == 0 == gradient[:, 8:].abs().max()


@torch.no_grad()
def test_a_recache_without_a_change_changes_nothing():
    """From the stream's start, with a clean cache: the same keys and values again."""
    spec = replace(CACHE, sink=1, sink_source="reference", history=(6,))
    inputs = Inputs(spec, SIGMAS)
    rollout = inputs.rollout()
    made = roll_out(rollout, 2)
    before = flat_state(rollout.cache.state_dict())
    rollout.recache(made, inputs.speech)
    for name, value in flat_state(rollout.cache.state_dict()).items():
        torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(before[name]), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["clean", "hybrid"])
@torch.no_grad()
def test_a_recache_writes_the_last_latents_under_the_new_speech(name):
    """The stream stays where it is and goes on from other keys; without latents only the speech to come is new."""
    spec, _ = SPECS[name]
    inputs = Inputs(*SPECS[name])
    nexts = []
    for latents in (0, spec.chunk):
        rollout = inputs.rollout()
        made = roll_out(rollout, 3)
        rollout.recache(made[:, :, made.shape[2] - latents :], inputs.other_speech)
        assert rollout.cache.next_latent == 3 * spec.chunk
        rollout.generator = torch.Generator().manual_seed(1)
        nexts.append(rollout.next_chunk())
    assert (nexts[0] - nexts[1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="can be written again"):
        inputs.rollout().recache(nexts[0], inputs.speech)
