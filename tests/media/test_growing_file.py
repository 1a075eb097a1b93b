"""The file while it grows: all but the last two frames play, also when the process is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import pytest

from talkstream.media.muxer import VideoWriter
from talkstream.tests.media.reading import click_train, decode, delay_seconds, pictures

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (44099, 1)])
def test_every_prefix_on_the_disk_plays_in_sync(tmp_path, rate, channels):
    clip = click_train(rate, 9.0, channels)
    writer = VideoWriter(
        tmp_path / "a.mp4",
        width=96,
        height=64,
        fps=Fraction(16),
        audio=(clip, rate),
        metadata={"prompt": "{}"},
    )
    for _ in range(11):
        writer.write(pictures(12))
        prefix = tmp_path / "prefix.mp4"
        prefix.write_bytes(writer.partial_path.read_bytes())
        result = decode(prefix)
        shown = len(result.frame_times)
        assert writer.frames_written - 2 <= shown <= writer.frames_written
        assert result.frame_times == [n / 16 for n in range(shown)]
        assert abs(delay_seconds(clip, result)) < 0.001
        assert result.metadata["prompt"] == "{}"
    writer.abort()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_process_leaves_a_file_that_plays(tmp_path):
    code = f"""
        import sys, types
        package = types.ModuleType("talkstream"); package.__path__ = [{str(ROOT)!r}]
        sys.modules["talkstream"] = package
        from fractions import Fraction
        from talkstream.media.muxer import VideoWriter
        from talkstream.tests.media.reading import click_train, pictures
        clip = click_train(44100, 20.0, 2)
        writer = VideoWriter({str(tmp_path / "a.mp4")!r}, width=96, height=64, fps=Fraction(16),
                             audio=(clip, 44100))
        while True:
            writer.write(pictures(12))
            sys.stdout.write(f"{{writer.frames_written}}\\n"); sys.stdout.flush()
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    written = 0
    while written < 96:
        written = int(child.stdout.readline())  # an empty line would mean that the child died: int() says so
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert [p.name for p in tmp_path.iterdir()] == ["a_partial.mp4"]
    result = decode(tmp_path / "a_partial.mp4")
    assert len(result.frame_times) >= written - 2
    assert abs(delay_seconds(click_train(44100, 20.0, 2), result)) < 0.001


def test_memory_does_not_grow_with_the_length(tmp_path):
    """Encoders hold a fixed number of frames: 30 s more cost less than 8 MB."""
    resource = pytest.importorskip("resource")
    clip = click_train(16000, 5.0, 1).repeat(1, 30)
    writer = VideoWriter(tmp_path / "a.mp4", width=96, height=64, fps=Fraction(16), audio=(clip, 16000))
    chunk = pictures(16)
    for _ in range(10):
        writer.write(chunk)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(30):
        writer.write(chunk)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    writer.finish()
    assert grown < 8 * 1024
