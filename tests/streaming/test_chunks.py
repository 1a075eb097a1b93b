"""The chunk plan against counting by hand: every frame once, none lost, whatever the sample rate."""

from __future__ import annotations

from fractions import Fraction

import pytest

from talkstream.streaming.chunks import ChunkPlan

RATES = (8000, 11025, 16000, 22050, 44100, 48000, 96000)


def plan(samples: int | None, rate: int = 16000, **changes) -> ChunkPlan:
    settings = {"chunk": 3, "fps_num": 25, "fps_den": 1, "sample_rate": rate, "samples": samples}
    return ChunkPlan(**{**settings, **changes})


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    ("seconds", "frames"),
    [(Fraction(3, 10), 8), (Fraction(1), 25), (Fraction(637, 100), 159), (Fraction(6103, 100), 1526)],
)
def test_frames_are_the_nearest_whole_number(seconds, frames, rate):
    """0.3 s is 7.5 frames (halves upwards), 6.37 s 159.25, 61.03 s 1525.75."""
    samples = round(seconds * rate)
    exact = Fraction(samples * 25, rate)
    expected = max(1, int(exact + Fraction(1, 2)))
    assert plan(samples, rate).frames == expected
    if Fraction(samples, rate) == seconds:
        assert expected == frames


@pytest.mark.parametrize("samples", [1, 5759, 5760, 6000, 13440, 13441, 97_648])
@pytest.mark.parametrize("discarded", [0, 2])
def test_chunks_tile_the_video(samples, discarded):
    """Frames follow each other without a gap; the first chunk decodes to 9, the others to 12."""
    whole = plan(samples, discarded=discarded)
    shown = 0
    for index in range(whole.chunks):
        chunk = whole.at(index)
        assert chunk.first_frame == shown and chunk.first_latent == 3 * index
        assert chunk.skip == (discarded if index == 0 else 0)
        decoded = 9 if index == 0 else 12
        assert 0 < chunk.frames <= decoded - chunk.skip
        assert chunk.last == (index == whole.chunks - 1)
        assert chunk.last or chunk.frames == decoded - chunk.skip
        shown += chunk.frames
    assert shown == whole.frames
    with pytest.raises(ValueError, match=f"{whole.chunks} chunks"):
        whole.at(whole.chunks)


def test_a_limit_changes_nothing_before_it():
    """The chunks of a shorter stream are those of the longer one, but for the last one's cut."""
    long, short = plan(16000 * 60), plan(16000 * 10)
    assert [short.at(i) for i in range(short.chunks - 1)] == [long.at(i) for i in range(short.chunks - 1)]
    assert short.frames == 250


def test_a_live_voice_has_no_last_chunk():
    live = plan(None)
    assert live.frames is None and live.chunks is None
    assert live.at(1000).frames == 12 and not live.at(1000).last
