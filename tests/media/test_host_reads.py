"""ComfyUI's own VIDEO type opens what we wrote: count, rate, sound, and a copy that keeps the workflow."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from talkstream.media.muxer import VideoWriter
from talkstream.tests.media.reading import click_train, decode, pictures


@pytest.mark.host
@pytest.mark.parametrize("keep", ["finish", "abort"])
def test_the_hosts_video_reads_the_file(host, tmp_path, keep):
    from comfy_api.latest import InputImpl

    clip = click_train(44100, 2.5, 2)
    metadata = {"prompt": json.dumps({"1": {"class_type": "X"}}), "workflow": json.dumps({"nodes": []})}
    writer = VideoWriter(
        tmp_path / "a.mp4", width=96, height=64, fps=Fraction(16), audio=(clip, 44100), metadata=metadata
    )
    writer.write(pictures(40))
    video = InputImpl.VideoFromFile(str(getattr(writer, keep)()))
    assert video.get_dimensions() == (96, 64)
    assert video.get_frame_count() == 40
    assert video.get_frame_rate() == 16
    assert video.get_duration() == pytest.approx(2.5, abs=1e-3)
    parts = video.get_components()
    assert tuple(parts.images.shape) == (40, 64, 96, 3)
    assert np.abs(parts.images.numpy() * 255 - pictures(40)).mean() < 20
    assert parts.audio["sample_rate"] == 44100
    assert parts.audio["waveform"].shape[1] == 2
    assert abs(parts.audio["waveform"].shape[2] - clip.shape[1]) <= 1024
    video.save_to(str(tmp_path / "copy.mp4"), metadata={"workflow": {"nodes": [1]}})
    copied = decode(tmp_path / "copy.mp4")
    assert len(copied.frame_times) == 40
    assert json.loads(copied.metadata["workflow"]) == {"nodes": [1]}
    assert copied.metadata["prompt"] == metadata["prompt"]
