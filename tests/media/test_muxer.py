"""The finished file: how many frames, how long, whose sound, how well aligned, and every failure's sentence."""

from __future__ import annotations

import errno
import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from talkstream.media import muxer
from talkstream.media.audio_track import choose_codec
from talkstream.media.muxer import VideoWriter
from talkstream.tests.media.reading import click_train, decode, delay_seconds, pictures

SOUNDS = (
    *((rate, 1) for rate in (7350, 8000, 11025, 16000, 22050, 44099)),
    *((rate, 2) for rate in (44100, 48000, 96000, 192000)),
    *((48000, channels) for channels in (3, 4, 5, 6, 7, 8)),
)
FPS = Fraction(16)


def write(path, frames, *, audio=None, fps=FPS, chunks=None, **options):
    height, width = frames.shape[1:3]
    writer = VideoWriter(path, width=width, height=height, fps=fps, audio=audio, **options)
    first = 0
    for count in chunks or [len(frames)]:
        writer.write(frames[first : first + count])
        first += count
    return writer


@pytest.mark.parametrize(("rate", "channels"), SOUNDS)
def test_sound_keeps_rate_channels_and_place(tmp_path, rate, channels):
    """The AAC run-in must not delay the sound: it did by 23 to 128 ms with an empty index in front."""
    clip = click_train(rate, 2.5, channels)
    writer = write(tmp_path / "a.mp4", pictures(40), audio=(clip, rate), chunks=[9, 12, 12, 7])
    result = decode(writer.finish())
    assert result.audio_rate == rate
    assert len(result.audio_CS) == channels
    assert result.audio_codec == choose_codec(rate, channels).encoder
    assert abs(delay_seconds(clip, result)) < 0.001
    assert result.frame_times == [n / 16 for n in range(40)]
    assert result.video_seconds == 2.5
    assert result.audio_seconds == pytest.approx(clip.shape[1] / rate, abs=0.001)


@pytest.mark.parametrize(("rate", "channels"), SOUNDS)
def test_sound_is_aligned_in_the_partial_file_too(tmp_path, rate, channels):
    clip = click_train(rate, 4.0, channels)
    writer = write(tmp_path / "a.mp4", pictures(40), audio=(clip, rate))
    result = decode(writer.abort())
    assert abs(delay_seconds(clip, result)) < 0.001
    assert len(result.frame_times) == 40
    assert result.audio_seconds == pytest.approx(2.5, abs=0.001)


@pytest.mark.parametrize(("rate", "channels"), [(44099, 1), (192000, 2), (48000, 8)])
def test_rates_without_aac_are_lossless_to_24_bits(tmp_path, rate, channels):
    clip = torch.rand(channels, rate, generator=torch.Generator().manual_seed(1)) * 2 - 1
    result = decode(write(tmp_path / "a.mp4", pictures(16), audio=(clip, rate)).finish())
    assert result.audio_CS.shape == tuple(clip.shape)
    assert np.abs(result.audio_CS - clip.double().numpy()).max() <= 2.0**-24 + 2.0**-23


@pytest.mark.parametrize(
    ("fps", "frames"),
    [(Fraction(16), 1), (Fraction(25), 2), (Fraction(30000, 1001), 61), (Fraction(24000, 1001), 47)],
)
def test_frame_count_and_duration_are_exact(tmp_path, fps, frames):
    result = decode(write(tmp_path / "a.mp4", pictures(frames), fps=fps).finish())
    assert len(result.frame_times) == frames
    assert result.video_seconds == pytest.approx(float(frames / fps), abs=1e-4)
    assert result.frame_times == pytest.approx([float(n / fps) for n in range(frames)], abs=1e-4)


@pytest.mark.parametrize(
    ("samples", "frames", "kept"),
    [(48_000, 16, 48_000), (49_499, 16, 49_499), (46_501, 16, 46_501), (96_000, 16, 48_000), (100, 1, 100)],
)
def test_all_sound_is_kept_unless_the_video_was_limited(tmp_path, samples, frames, kept):
    """Within half a frame of the pictures nothing is cut; a shorter run cuts where its pictures end."""
    clip = torch.rand(1, samples) - 0.5
    result = decode(write(tmp_path / "a.mp4", pictures(frames), audio=(clip, 48_000)).finish())
    assert result.audio_seconds == pytest.approx(kept / 48_000, abs=1e-3)


def test_chunk_sizes_do_not_change_the_file(tmp_path):
    clip, frames = click_train(44100, 2.5, 2), pictures(40)
    wrote = [
        write(tmp_path / f"{n}.mp4", frames, audio=(clip, 44100), chunks=chunks).finish().read_bytes()
        for n, chunks in enumerate([[40], [9, 12, 12, 7], [1] * 40])
    ]
    assert wrote[0] == wrote[1] == wrote[2]


@pytest.mark.parametrize("codec", ["h264", "vp9"])
def test_pictures_survive_with_their_colours(tmp_path, codec):
    """Flat colours come back within 3 levels: matrix BT.709 both when converting and in the tags."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120), (0, 0, 0), (255, 255, 255)]
    frames = np.stack([np.broadcast_to(np.uint8(c), (64, 96, 3)) for c in colours])
    path = write(tmp_path / "a.mp4", frames, codec=codec, quality=10).finish()
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        shown = [
            frame.reformat(format="rgb24", src_colorspace=1).to_ndarray()
            for frame in container.decode(video=0)
        ]
    for frame, colour in zip(shown, colours, strict=True):
        assert np.abs(frame.astype(int) - np.array(colour)).max() <= 3


def test_index_comes_first_and_metadata_is_kept(tmp_path):
    tags = {"prompt": '{"1": {"class_type": "X"}}', "workflow": '{"title": "Grüße 你好"}'}
    path = write(tmp_path / "a.mp4", pictures(20), metadata=tags).finish()
    raw = path.read_bytes()
    assert 0 < raw.index(b"moov") < raw.index(b"mdat")
    assert {key: decode(path).metadata[key] for key in tags} == tags
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_an_exception_leaves_a_partial_file_that_plays(tmp_path):
    clip = click_train(44100, 4.0, 2)
    with pytest.raises(RuntimeError, match="stop"):  # noqa: SIM117
        with VideoWriter(
            tmp_path / "talk_00001_.mp4", width=96, height=64, fps=FPS, audio=(clip, 44100)
        ) as w:
            w.write(pictures(30))
            raise RuntimeError("stop")
    assert [p.name for p in tmp_path.iterdir()] == ["talk_00001_partial.mp4"]
    result = decode(tmp_path / "talk_00001_partial.mp4")
    assert len(result.frame_times) == 30
    assert result.audio_seconds == pytest.approx(30 / 16, abs=0.001)


def test_an_older_partial_file_is_not_overwritten(tmp_path):
    (tmp_path / "a_partial.mp4").write_bytes(b"older")
    writer = write(tmp_path / "a.mp4", pictures(4))
    assert writer.abort().name == "a_partial2.mp4"
    assert (tmp_path / "a_partial.mp4").read_bytes() == b"older"


def test_nothing_written_leaves_nothing(tmp_path):
    assert VideoWriter(tmp_path / "a.mp4", width=96, height=64, fps=FPS).abort() is None
    with pytest.raises(ValueError, match="no frame was written"):
        VideoWriter(tmp_path / "a.mp4", width=96, height=64, fps=FPS).finish()
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_and_writing_after_closing(tmp_path):
    writer = write(tmp_path / "a.mp4", pictures(4))
    writer.finish()
    with pytest.raises(ValueError, match="is closed"):
        writer.write(pictures(1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 95}, "95x64.*change the size in Encode Reference to 96x64"),
        ({"height": 33}, "96x33.*to 96x34"),
        ({"codec": "mpeg1"}, "allowed: h264, vp9"),
        ({"audio": (torch.zeros(9, 100), 48000)}, "9 channels.*1 to 8"),
        ({"audio": (torch.zeros(1, 100), 0)}, "sample rate is 0"),
    ],
)
def test_what_mp4_cannot_hold_is_said_at_once(tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        VideoWriter(tmp_path / "a.mp4", **{"width": 96, "height": 64, "fps": FPS, **options})
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_or_type(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", width=96, height=64, fps=FPS)
    with pytest.raises(ValueError, match=r"expected \(F, 64, 96, 3\) uint8"):
        writer.write(pictures(2, height=96, width=64))
    with pytest.raises(ValueError, match="uint8"):
        writer.write(torch.zeros(2, 64, 96, 3))
    writer.abort()


def test_missing_folder_and_file_in_the_way(tmp_path):
    with pytest.raises(OSError, match="is not a folder"):
        VideoWriter(tmp_path / "none" / "a.mp4", width=96, height=64, fps=FPS)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="is not a folder"):
        VideoWriter(tmp_path / "file" / "a.mp4", width=96, height=64, fps=FPS)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    """Every write to the running file fails with 'no space left'."""
    (tmp_path / "full.mp4").symlink_to("/dev/full")
    monkeypatch.setattr(muxer, "free_partial_path", lambda path: tmp_path / "full.mp4")
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 96, 3), dtype=np.uint8)
    writer = VideoWriter(
        tmp_path / "a.mp4", width=96, height=64, fps=FPS, audio=(click_train(44100, 30.0, 2), 44100)
    )
    with pytest.raises(OSError, match="is full: free some space") as caught:
        for _ in range(10):
            writer.write(noise)
    assert caught.value.errno == errno.ENOSPC
    assert not str(caught.value).startswith("[Errno")
    assert writer.abort() == writer.partial_path


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_at_the_end_keeps_the_partial_file(tmp_path):
    """The second copy does not fit: the error names the partial file, and that file plays."""
    (tmp_path / ".a.finishing.mp4").symlink_to("/dev/full")
    clip = click_train(44100, 2.5, 2)
    writer = write(tmp_path / "a.mp4", pictures(40), audio=(clip, 44100))
    with pytest.raises(OSError, match="is full.*what was made so far plays in .*a_partial.mp4"):
        writer.finish()
    assert not (tmp_path / "a.mp4").exists()
    assert len(decode(writer.abort()).frame_times) == 40
