"""The student's own speech encoder, chunk by chunk, against one pass over the whole clip."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from talkstream.audio.mel import MelFrontEnd, MelSettings
from talkstream.audio.resample import ResampledReader
from talkstream.audio.sources import ClipSource, LiveSource
from talkstream.networks.audio_pack import pack_vectors
from talkstream.tests.streaming.parts import RATE, Student, voice

LATENTS = 27  # 105 frames, more than the 100 of the clip


@pytest.fixture(scope="module")
def student() -> Student:
    return Student()


@torch.no_grad()
def whole_tokens(student: Student) -> torch.Tensor:
    """(1, LATENTS, E): the plain computation, silence after the clip."""
    mel = student.profile.speech.mel
    samples = ResampledReader(ClipSource(voice(4.0), RATE), rate=mel.sample_rate).read(0, 640 * 109)
    frames = MelFrontEnd(MelSettings(**asdict(mel))).whole(samples)
    vectors = student.encoder(torch.from_numpy(frames)[None])[:, : 4 * LATENTS - 3]
    return student.model.audio_proj(pack_vectors(vectors, prefix_copies=3))


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_chunks_equal_the_whole_clip(student, chunk):
    speech = student.speech(ClipSource(voice(4.0), RATE))
    firsts = range(0, LATENTS, chunk)
    parts = [speech.tokens(first, min(chunk, LATENTS - first)) for first in firsts]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole_tokens(student), rtol=0, atol=2e-5)


def test_reset_equals_fresh_and_state_goes_on(student):
    speech = student.speech(ClipSource(voice(4.0), RATE))
    first = [speech.tokens(3 * i, 3) for i in range(3)]
    state = speech.state_dict()
    rest = [speech.tokens(3 * i, 3) for i in range(3, 6)]
    speech.reset()
    assert all(torch.equal(speech.tokens(3 * i, 3), part) for i, part in enumerate(first))
    speech.load_state_dict(state)
    assert all(torch.equal(speech.tokens(3 * i, 3), part) for i, part in enumerate(rest, start=3))


def test_needed_samples_are_enough_and_not_one_too_many(student):
    """With exactly the announced samples a live voice gives the tokens; with one fewer it refuses."""
    clip = voice(4.0)
    expected = student.speech(ClipSource(clip, RATE)).tokens(0, 3)
    _, stop = student.speech(ClipSource(clip, RATE)).needed_samples(0, 3)
    enough, short = LiveSource(RATE), LiveSource(RATE)
    enough.push(clip[:, :stop])
    short.push(clip[:, : stop - 1])
    assert torch.equal(student.speech(enough).tokens(0, 3), expected)
    with pytest.raises(ValueError, match="has not arrived yet"):
        student.speech(short).tokens(0, 3)
    assert stop / RATE == pytest.approx(9 / 25 + 0.12, abs=0.02)


def test_latents_are_asked_for_in_order(student):
    speech = student.speech(ClipSource(voice(1.0), RATE))
    with pytest.raises(ValueError, match="the next one is 0"):
        speech.tokens(3, 3)
