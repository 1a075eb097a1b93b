"""A stream in segments: chunks numbered through, each segment as a stream of its own, resumed anywhere."""

from __future__ import annotations

import pytest
import torch

from talkstream.streaming.segmented_session import SegmentedSession
from talkstream.streaming.segments import Segment, SegmentPlan
from talkstream.tests.streaming.parts import RATE as VOICE_RATE
from talkstream.tests.streaming.parts import Student, latents_of, voice

RATE = 16000


def plan_of(*segments: tuple[int, int], frames: int, rate: int = RATE) -> SegmentPlan:
    parts = tuple(Segment(*segment) for segment in segments)
    return SegmentPlan(parts, frames=frames, chunk=3, fps_num=25, fps_den=1, sample_rate=rate)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_every_frame_is_made_once_and_none_beyond(rate):
    """21 frames are 9 and 12; 10 are 9 and 1; a segment of one frame; 5 frames without a face between."""
    plan = plan_of((0, 21), (21, 10), (36, 1), frames=37, rate=rate)
    chunks = [plan.at(index) for index in range(plan.chunks)]
    assert [(c.first_frame, c.frames, c.first_latent) for c in chunks] == [
        (0, 9, 0), (9, 12, 3), (21, 9, 0), (30, 1, 3), (36, 1, 0),
    ]  # fmt: skip
    assert [plan.starts_segment(c.index) for c in chunks] == [True, False, True, False, True]
    assert [c.last for c in chunks] == [False] * 4 + [True]
    with pytest.raises(ValueError, match="5 chunks"):
        plan.at(5)


def test_a_video_without_a_face_has_no_chunks():
    assert plan_of(frames=50).chunks == 0


@pytest.fixture(scope="module")
def student():
    return Student()


def opened(student, plan, opened_segments):
    """Each segment with its own noise, over the same short voice."""
    clip = voice(seconds=1.0)

    def open_segment(number):
        opened_segments.append(number)
        return student.open(clip, samples=plan.samples_of(number), seed=number)

    return SegmentedSession(plan, open_segment)


def test_segments_know_nothing_of_each_other(student):
    """Each is what a session of its own makes; a state from the middle goes on bit for bit."""
    plan = plan_of((0, 14), (20, 10), frames=40, rate=VOICE_RATE)
    seen: list[int] = []
    with opened(student, plan, seen) as session:
        made = list(session.chunks())
    assert seen == [0, 1]
    assert [latents.first_frame for latents in made] == [0, 9, 20, 29]
    alone = latents_of(opened(student, plan, [])._open(1))
    assert torch.equal(torch.cat([m.latent_BCTHW for m in made[2:]], dim=2), alone)
    for stop in (1, 2, 3):
        first = opened(student, plan, [])
        stream = first.chunks()
        for _ in range(stop):
            next(stream)
        state = first.state_dict()
        second = opened(student, plan, [])
        second.load_state_dict(state)
        rest = list(second.chunks())
        assert [m.index for m in rest] == list(range(stop, 4))
        for one, other in zip(rest, made[stop:], strict=True):
            assert torch.equal(one.latent_BCTHW, other.latent_BCTHW)
            told = [(m.index, m.first_frame, m.frames, m.last) for m in (one, other)]
            assert told[0] == told[1]
