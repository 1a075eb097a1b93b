"""What the length of a voice may change, and what it may not: the shipped Mini, before anything is encoded."""

from __future__ import annotations

import itertools

import pytest
import torch

from talkstream.audio.rates import frame_count
from talkstream.benchmarks import mini_run

pytestmark = pytest.mark.slow

LONG_SECONDS, SECONDS = 60, 10
FRAMES = 25 * SECONDS
UNCHANGED = 237  # chunks end at frames 9 + 12 k and hear 6 frames ahead: the last one inside 250 ends at 237


def first_latents(loaded, clip_CS, rate, *, samples=None) -> torch.Tensor:
    """The latents that hold the first 250 frames. samples: a limit on what is shown of the voice."""
    session = mini_run.open_session(loaded, clip_CS, rate, mini_run.Timing(), samples=samples)
    chunks = -(-(FRAMES - 9) // 12) + 1
    made = [part.latent_BCTHW for part in itertools.islice(session.chunks(), chunks)]
    session.close()
    return torch.cat(made, dim=2)


def test_both_promises_of_length():
    """A limit of 10 s gives the first 250 frames of the minute; a voice cut at 10 s its frames 0 to 236."""
    loaded = mini_run.load(dtype=torch.float32)
    voice_CS, rate = mini_run.voice(LONG_SECONDS)
    cut_CS = voice_CS[:, : SECONDS * rate]
    assert frame_count(cut_CS.shape[1], rate, fps_num=25, fps_den=1) == FRAMES
    long = first_latents(loaded, voice_CS, rate)
    limited = first_latents(loaded, voice_CS, rate, samples=SECONDS * rate)
    assert torch.equal(limited, long)
    cut = first_latents(loaded, cut_CS, rate)
    latents = (UNCHANGED - 1) // 4 + 1
    assert latents == 60
    assert torch.equal(cut[:, :, :latents], long[:, :, :latents])
    assert not torch.equal(cut[:, :, latents:], long[:, :, latents:])
