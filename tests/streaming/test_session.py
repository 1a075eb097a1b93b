"""Sessions: pushed == whole, reset == fresh, independent, resumable, prefix-stable, and clear when they fail."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from talkstream.audio.sources import LiveSource
from talkstream.networks.kv_cache import CLEAN_PASS
from talkstream.samplers.noise import GivenNoise, SeededNoise
from talkstream.tests.streaming.parts import RATE, Student, latents_of, voice


@pytest.fixture(scope="module")
def student() -> Student:
    return Student()


@pytest.fixture(scope="module")
def whole(student) -> torch.Tensor:
    return latents_of(student.open(voice(4.0)))


def test_length_and_numbers(student, whole):
    """4 s are 100 frames: 26 latents, so nine chunks of three; the picture stands in latent 0."""
    assert whole.shape == (1, 16, 27, 4, 4)
    assert torch.equal(whole[:, :, :1], student.picture_BCTHW)
    parts = list(student.open(voice(4.0)).chunks())
    assert [part.frames for part in parts] == [9, *[12] * 7, 7]
    assert [part.last for part in parts] == [False] * 8 + [True]


def test_reset_equals_fresh(student, whole):
    session = student.open(voice(4.0))
    for _ in zip(range(5), session.chunks(), strict=False):
        pass
    session.reset()
    assert torch.equal(latents_of(session), whole)


def test_two_sessions_do_not_touch(student, whole):
    one, two = student.open(voice(4.0)), student.open(voice(4.0, seed=1), seed=9)
    alone = latents_of(student.open(voice(4.0, seed=1), seed=9))
    pairs = list(zip(one.chunks(), two.chunks(), strict=True))
    assert torch.equal(torch.cat([a.latent_BCTHW for a, _ in pairs], 2), whole)
    assert torch.equal(torch.cat([b.latent_BCTHW for _, b in pairs], 2), alone)


@pytest.mark.parametrize("piece", [700, 4410, 30_000])
def test_a_pushed_voice_gives_the_same_latents(student, whole, piece):
    """Whatever the pieces; samples no longer heard are dropped."""
    source = LiveSource(RATE)
    session = student.open(source=source)
    parts, kept = [], 0
    for part in voice(4.0).split(piece, dim=1):
        session.push(part)
        parts += [latents.latent_BCTHW for latents in session.chunks()]
        kept = max(kept, source.received - source.state_dict()["first"])
    session.finish()
    parts += [latents.latent_BCTHW for latents in session.chunks()]
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=1e-5)
    assert kept < RATE + piece


def test_state_goes_on_bit_identically(student, whole):
    """Saved after the third chunk, loaded into a session that had run elsewhere."""
    first = student.open(voice(4.0))
    made = [part.latent_BCTHW for _, part in zip(range(3), first.chunks(), strict=False)]
    state = first.state_dict()
    other = student.open(voice(4.0))
    for _ in zip(range(5), other.chunks(), strict=False):
        pass
    other.load_state_dict(state)
    assert torch.equal(torch.cat([*made, latents_of(other)], dim=2), whole)


def test_a_duration_limit_gives_the_first_frames(student, whole):
    limited = latents_of(student.open(voice(4.0), samples=2 * RATE))
    assert limited.shape[2] == 15
    assert torch.equal(limited, whole[:, :, :15])


def test_a_cut_voice_leaves_chunks_alone_that_do_not_hear_the_cut(student, whole):
    """Cut at 2 s: support ends at the chunk's last frame plus 120 ms, so chunks 0 to 2 (33 frames) must not move."""
    cut = latents_of(student.open(voice(4.0)[:, : 2 * RATE]))
    assert torch.equal(cut[:, :, :9], whole[:, :, :9])
    assert not torch.equal(cut[:, :, 12:15], whole[:, :, 12:15])


def test_a_chunk_leaves_before_its_clean_pass(student):
    """The clean pass of a chunk runs when the next one is asked for, and never after the last."""
    session = student.open(voice(1.0))
    calls: list[int] = []
    begin = session._cache.begin_pass
    session._cache.begin_pass = lambda step: (calls.append(step), begin(step))
    stream = session.chunks()
    next(stream)
    assert calls == [0, 1]
    next(stream)
    assert calls == [0, 1, CLEAN_PASS, 0, 1]
    list(stream)
    assert calls.count(CLEAN_PASS) == 2


def test_stop_comes_through_after_a_step(student):
    class Stop(BaseException):
        pass

    def stop(step, x0):
        raise Stop

    with pytest.raises(Stop), student.open(voice(1.0), on_step=stop) as session:
        next(session.chunks())
    assert list(session.chunks()) == []


def test_nan_stops_with_a_sentence(student):
    session = student.open(voice(1.0))
    session._noise = GivenNoise(torch.full((1, 16, 9, 4, 4), torch.nan), renoises=SeededNoise(0))
    with pytest.raises(ValueError, match="chunk 0 came out with NaN"):
        next(session.chunks())


def test_parts_that_do_not_fit_are_named(student):
    session = student.open(voice(1.0))
    with pytest.raises(ValueError, match="whole voice already"):
        session.push(voice(0.1))
    with pytest.raises(ValueError, match="must be even"):
        dataclasses.replace(session.spec, latent_width=5)


@pytest.mark.parametrize("mode", ["clean", "per_step"])
def test_both_cache_modes_stream(mode):
    """per_step needs no clean pass; both stay finite over evictions and differ."""
    student = Student(cache_mode=mode)
    made = latents_of(student.open(voice(3.0)))
    assert made.shape[2] == 21 and bool(torch.isfinite(made).all())
