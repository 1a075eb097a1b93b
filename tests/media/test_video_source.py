"""Videos are read frame by frame: right way up, true times, whatever the file is like."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from talkstream.media.frame_reader import FrameReader
from talkstream.media.muxer import VideoWriter
from talkstream.media.video_source import PictureSource, VideoSource
from talkstream.tests.videos import number_of, numbered, turn, write_video

ROOT = Path(__file__).resolve().parents[2]


def pictures(count: int, **size: int) -> list[np.ndarray]:
    return [numbered(number, **size) for number in range(count)]


def numbers(source: VideoSource, start: int = 0) -> list[int]:
    return [number_of(frame.picture) for frame in source.frames(start)]


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "30", "50", "60"])
def test_frames_and_times_of_every_rate(tmp_path, rate):
    source = VideoSource(write_video(tmp_path / "a.mp4", pictures(10), fps=Fraction(rate)))
    assert (source.width, source.height, source.fps) == (96, 64, Fraction(rate))
    assert source.index.constant
    frames = list(source.frames())
    assert [number_of(frame.picture) for frame in frames] == list(range(10))
    assert [frame.index for frame in frames] == list(range(10))
    assert all(abs(frame.seconds - frame.index / Fraction(rate)) < Fraction(1, 5000) for frame in frames)


@pytest.mark.parametrize("container", ["mkv", "avi", "ts"])
def test_containers(tmp_path, container):
    """AVI has no showing times, MKV rounds them to milliseconds, TS starts late."""
    source = VideoSource(write_video(tmp_path / f"a.{container}", pictures(9), fps=Fraction(30000, 1001)))
    assert source.fps == Fraction(30000, 1001)
    assert numbers(source) == list(range(9))
    assert numbers(source, 5) == [5, 6, 7, 8]


def test_iterations_are_independent_and_start_anywhere(tmp_path):
    source = VideoSource(io.BytesIO(write_video(tmp_path / "a.mp4", pictures(30), gop=8).read_bytes()))
    one, other = source.frames(), source.frames(17)
    assert [number_of(next(one).picture) for _ in range(3)] == [0, 1, 2]
    assert [number_of(next(other).picture) for _ in range(3)] == [17, 18, 19]
    assert number_of(next(one).picture) == 3


def test_variable_rate_keeps_its_times(tmp_path):
    ticks = [0, 3000, 6000, 12000, 15000, 27000, 30000]
    source = VideoSource(write_video(tmp_path / "a.mp4", pictures(7), fps=Fraction(30), ticks=ticks))
    assert not source.index.constant
    assert source.fps == 30
    assert [frame.seconds for frame in source.frames()] == [Fraction(tick, 90000) for tick in ticks]
    assert numbers(source) == list(range(7))


def test_ten_bits_become_eight(tmp_path):
    plain = VideoSource(write_video(tmp_path / "a.mp4", pictures(4)))
    deep = VideoSource(write_video(tmp_path / "b.mp4", pictures(4), pixels="yuv420p10le"))
    for one, other in zip(plain.frames(), deep.frames(), strict=True):
        assert other.picture.dtype == np.uint8
        assert np.abs(one.picture.astype(int) - other.picture).max() <= 3


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_phone_video_is_upright(tmp_path, degrees):
    """A phone stores what its sensor sees and says how to turn it."""
    upright = np.zeros((64, 48, 3), np.uint8)
    upright[:8, :8] = 250  # top left
    upright[-8:, :8] = 130  # bottom left
    stored = np.ascontiguousarray(np.rot90(upright, k=degrees // 90))
    source = VideoSource(turn(write_video(tmp_path / "a.mp4", [stored] * 3), degrees))
    assert (source.width, source.height) == (48, 64)
    picture = next(source.frames()).picture
    assert np.abs(picture.astype(int) - upright).mean() < 3


def test_odd_sizes_lose_their_last_column_and_row(tmp_path):
    shown = pictures(3, width=97, height=65)
    source = VideoSource(write_video(tmp_path / "a.mp4", shown, pixels="yuv444p"))
    assert (source.width, source.height) == (96, 64)
    assert numbers(source) == [0, 1, 2]
    still = PictureSource(torch.from_numpy(np.stack(shown)) / 255, fps=Fraction(25))
    assert [frame.picture.shape for frame in still.frames()] == [(64, 96, 3)] * 3
    assert np.array_equal(next(still.frames(2)).picture, shown[2][:64, :96])


def test_a_trim_window_gives_its_frames_and_its_sound(tmp_path):
    path = write_video(tmp_path / "a.mp4", pictures(50), sound=True)
    source = VideoSource(path, start_seconds=0.4, seconds=0.8)
    assert numbers(source) == list(range(10, 30))
    assert next(source.frames()).seconds == 0
    sound, whole = source.audio(), VideoSource(path).audio()
    assert (sound["sample_rate"], whole["sample_rate"]) == (16000, 16000)
    assert sound["waveform"].shape == (1, 1, 12800)
    assert torch.equal(sound["waveform"], whole["waveform"][..., 6400:19200])


def test_no_sound_is_none(tmp_path):
    assert VideoSource(write_video(tmp_path / "a.mp4", pictures(3))).audio() is None


def test_a_cut_off_file_gives_what_it_has(tmp_path):
    """A transport stream needs no index: half of one is a shorter video."""
    path = write_video(tmp_path / "a.ts", pictures(40), gop=5)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    shown = numbers(VideoSource(path))
    assert 10 <= len(shown) < 40
    assert shown == list(range(len(shown)))


def test_damaged_frames_repeat_their_neighbour(tmp_path, caplog):
    path = write_video(tmp_path / "a.mp4", pictures(24), gop=6)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    third = (len(content) - start) // 3
    content[start + third : start + third + 400] = bytes(400)
    path.write_bytes(content)
    frames = list(VideoSource(path).frames())
    assert [frame.index for frame in frames] == list(range(24))
    assert number_of(frames[0].picture) == 0
    assert number_of(frames[-1].picture) == 23
    assert "damaged" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(4000)])
def test_a_broken_file_is_one_sentence(tmp_path, content):
    (tmp_path / "broken.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.mp4 cannot be read as a video") as raised:
        VideoSource(tmp_path / "broken.mp4")
    assert str(raised.value).count("\n") == 0


def test_times_that_are_damage_are_one_sentence(tmp_path):
    """Two frames ten years apart would make a result of ten years."""
    path = write_video(tmp_path / "a.mkv", pictures(2), ticks=[0, 10**10], time_base=Fraction(1, 1000))
    with pytest.raises(ValueError, match="2 frames claim to last"):
        VideoSource(path)


@pytest.mark.parametrize("seed", range(12))
def test_random_damage_is_a_video_or_one_sentence(tmp_path, seed):
    rng = np.random.default_rng(seed)
    content = bytearray(write_video(tmp_path / "a.mp4", pictures(12), gop=4).read_bytes())
    if seed % 2:
        content = content[: rng.integers(10, len(content))]
    for place in rng.integers(0, len(content), 20):
        content[place] = rng.integers(0, 256)
    (tmp_path / "a.mp4").write_bytes(content)
    try:
        source = VideoSource(tmp_path / "a.mp4")
    except ValueError as error:
        assert str(error).startswith("a.mp4 ")
        assert len(str(error).splitlines()) == 1
    else:
        frames = list(source.frames())
        assert [frame.index for frame in frames] == list(range(source.frame_count))
        assert {frame.picture.shape for frame in frames} == {(source.height, source.width, 3)}


def test_colours_come_back_as_they_were_saved(tmp_path):
    """What Save Stream writes, names its colour matrix, and what names none is read as players do."""
    bars = np.repeat(
        np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [230, 230, 230]], np.uint8), 24, 0
    )
    shown = np.repeat(bars[None], 64, 0)
    with VideoWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(25), quality=2) as writer:
        writer.write(np.stack([shown] * 3))
    for path in (tmp_path / "a.mp4", write_video(tmp_path / "b.mp4", [shown] * 3)):
        picture = next(VideoSource(path).frames()).picture
        middles = picture[32, 12::24].astype(int)
        assert np.abs(middles - bars[12::24]).max() <= 3


def test_a_missing_file_and_a_recording_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        VideoSource(tmp_path / "gone.mp4")
    with pytest.raises(ValueError, match="has no pictures"):
        VideoSource(ROOT / "assets" / "sentences" / "hello.wav")


@pytest.mark.parametrize("held", [1, 3, 100])
def test_frames_in_any_order_with_any_memory(tmp_path, held):
    """Backwards through groups of 11 frames with room for 1, 3 or all of them."""
    source = VideoSource(write_video(tmp_path / "a.mp4", pictures(25), gop=11))
    reader = FrameReader(source, held_bytes=held * 96 * 64 * 3)
    order = [0, 1, 1, 4, *range(24, -1, -1), 3, 20, 20, 19, 24, 0]
    assert [number_of(picture) for picture in reader.pictures(order)] == order
    assert len(reader._held) <= held
    with pytest.raises(ValueError, match="frames 0 to 24"):
        reader.picture(25)
