"""Windows of the student's stream: where they lie, what of them is judged, what lives on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.samplers.schedule import Schedule
from talkstream.tests.training.tiny_world import (
    CACHE,
    ECHO_CACHE,
    ECHO_SIGMAS,
    LATENTS,
    SIGMAS,
    random_bank,
    random_student,
)
from talkstream.training.long_tail import LongTail, LongTailSize, draw_streams
from talkstream.training.parallel import Draws
from talkstream.training.rollout import roll_out
from talkstream.training.self_correction import SelfCorrection
from talkstream.training.windows import SelfForcing, Streamer

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")


def _streamer(*, echo=False):
    spec, sigmas = (ECHO_CACHE, ECHO_SIGMAS) if echo else (CACHE, SIGMAS)
    return Streamer(random_student(), Schedule.from_sigmas(sigmas), spec)


def _draw(source, step, *, learns=True):
    random = np.random.default_rng([0, step])
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    return source.draw(step, Draws(random, random, generator), learns=learns)


class Reach:
    """Asks which latents of a window carry a gradient to a student's weights."""

    def __init__(self, student):
        self.head = student.network.head.head.weight

    def __call__(self, window):
        reached = []
        for place in range(window.latents.shape[2]):
            loss = window.latents[:, :, place].sum()
            gradient = None
            if loss.requires_grad:
                gradient = torch.autograd.grad(loss, self.head, retain_graph=True, allow_unused=True)[0]
            reached.append(gradient is not None and gradient.abs().max().item() > 0)
        return reached


def test_self_forcing_judges_everything_but_the_portrait():
    streamer = _streamer()
    source = SelfForcing(streamer, random_bank(3), clips=2, window=6)
    window = _draw(source, 0)
    assert window.places == range(6) and window.interval == (0.0, 1.0)
    assert window.scored == window.noised == (False, *[True] * 5)
    assert Reach(streamer.student)(window) == [False] + [True] * 5
    assert not _draw(source, 0, learns=False).latents.requires_grad


def test_one_exit_for_all_chunks_of_a_rollout():
    """Seeds that leave at step 0 and at step 1 both occur; every chunk then runs that many passes."""
    streamer, seen = _streamer(), set()
    source = SelfForcing(streamer, random_bank(3), clips=1, window=9)
    forward = streamer.student.forward
    for step in range(6):
        passes = []

        def noted(x, *, timestep_BT, passes=passes, **named):
            passes.append(round(timestep_BT[0, 0].item()))
            return forward(x, timestep_BT=timestep_BT, **named)

        streamer.student.forward = noted
        _draw(source, step, learns=False)
        assert passes in ([1000, 0] * 3, [1000, 833, 0] * 3)
        seen.add(len(passes))
    assert seen == {6, 9}


def test_self_correction_judges_the_last_chunk_inside_the_exits_interval():
    """One to three chunks; context clean and without gradient; the level lies between the exit and the next step."""
    streamer = _streamer()
    source = SelfCorrection(streamer, random_bank(3), clips=2, window=6, most=3)
    ends, intervals = set(), set()
    for step in range(8):
        window = _draw(source, step)
        end = window.places.stop
        assert window.places == range(max(0, end - 6), end) and window.latents.shape[2] == len(window.places)
        expected = tuple(place >= max(1, end - 3) for place in window.places)
        assert window.scored == window.noised == expected
        assert tuple(Reach(streamer.student)(window)) == expected
        ends.add(end)
        intervals.add(window.interval)
    assert ends == {3, 6, 9}
    assert intervals == {(0.833333, 1.0), (0.0, 0.833333)}


def _long_tail(streamer, **size):
    sizes = {"window": 6, "horizon": 18, "long_after": 12} | size
    return LongTail(streamer, random_bank(3), LongTailSize(**sizes), clips=2, seed=4)


def test_a_long_stream_lives_on_and_is_judged_by_its_tail():
    """Windows 0..5, 6..11 and 12..17 of one stream, then new clips; once l >= 12 only the last latent counts."""
    streamer = _streamer()
    source, reach = _long_tail(streamer), Reach(streamer.student)
    windows = [_draw(source, step) for step in range(4)]
    assert [window.places for window in windows] == [range(6), range(6, 12), range(12, 18), range(6)]
    scored = [window.scored for window in windows]
    assert scored == [(False, *[True] * 5), (True,) * 6, (*[False] * 5, True), (False, *[True] * 5)]
    assert [window.noised for window in windows[1:3]] == [(True,) * 6] * 2
    assert reach(windows[1]) == [True] * 6
    assert reach(windows[2]) == [False] * 3 + [True] * 3  # only the chunk of the last latent records
    mel = [window.batch.mel for window in windows]
    assert torch.equal(mel[0], mel[2]) and not torch.equal(mel[0], mel[3])
    assert torch.equal(windows[3].latents[:, :, :1], windows[3].batch.condition.reference_BC1HW)


@torch.no_grad()
def test_the_windows_of_a_long_stream_are_one_rollout():
    """Windows drawn at three steps join to what one rollout gives with the same noise and no exit but the last."""
    streamer = _streamer(echo=True)
    source = _long_tail(streamer, window=4, horizon=12, long_after=12)
    noise = torch.Generator().manual_seed(8)

    class Last:
        def integers(self, steps):
            return steps - 1

        def random(self):
            return 1.0

    windows = [source.draw(step, Draws(Last(), Last(), noise), learns=False) for step in range(3)]
    joined = torch.cat([window.latents for window in windows], dim=2)
    rollout = streamer.start(windows[0].batch, torch.Generator().manual_seed(8))
    assert torch.equal(joined, roll_out(rollout, 3))


def test_speech_that_changes_is_recached_once():
    """With switch_share 1 every later window hears other speech and re-forwards the latents asked for."""
    streamer = _streamer()
    source = _long_tail(streamer, switch_share=1.0, recache=3)
    first = _draw(source, 0)
    calls, recache = [], source._rollout.recache
    source._rollout.recache = lambda latents, speech: (calls.append(latents), recache(latents, speech))
    second = _draw(source, 1)
    assert len(calls) == 1
    assert torch.equal(calls[0], first.latents[:, :, 3:])
    assert not torch.equal(first.batch.mel, second.batch.mel)
    assert second.places == range(6, 12)
    still = _long_tail(streamer, recache=3)
    _draw(still, 0)
    still._rollout.recache = None  # never called without a change
    _draw(still, 1)


def test_streams_longer_than_clips_hear_further_clips():
    """Latents 0..14 are the clip's own; the next clip's frames follow from its second one on."""
    bank = random_bank(3)
    bank = replace(bank, eyes=bank.mouth[..., 4])
    batch = draw_streams(bank, np.random.default_rng(0), clips=2, latents=40)
    frames = 4 * 40 - 3
    assert batch.mel.shape[1] == 4 * frames and batch.mouth.shape[1] == frames
    assert batch.latents.shape[2] == LATENTS
    assert torch.equal(batch.eyes, batch.mouth[..., 4])
    own = 4 * LATENTS - 3
    for clip in range(2):
        first = [np.array_equal(batch.mouth[clip, :own], bank.mouth[i]) for i in range(3)]
        second = [np.array_equal(batch.mouth[clip, own : own + own - 1], bank.mouth[i][1:]) for i in range(3)]
        assert sum(first) == sum(second) == 1
    with pytest.raises(ValueError, match="set horizon to at most 15"):
        draw_streams(random_bank(2, lip_sync=True), np.random.default_rng(0), clips=1, latents=18)
