"""The example video: its file, and the box that lays its person over a training portrait."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.devtools.host import ROOT
from talkstream.media.video_source import VideoSource
from talkstream.streaming.face_alignment import aligned_square, inverse, points_in_box
from talkstream.training.world.make_video import FACE_BOX, FPS, FRAMES, HEIGHT, PERSON, WHO, WIDTH


def test_the_crop_of_the_box_is_the_person():
    """Within a pixel: the drawn square, squeezed to 3:4 in the video, is a square again in the crop."""
    x, y, width, height = FACE_BOX
    matrix = aligned_square(points_in_box(np.array([x, y, x + width, y + height])), side=128)
    corners = inverse(matrix) @ np.array([[-0.5, -0.5, 1.0], [127.5, 127.5, 1.0]]).T + 0.5
    left, top, wide, high = PERSON
    assert corners.T.ravel() == pytest.approx([left, top, left + wide, top + high], abs=1.0)


def test_the_file_is_as_described():
    source = VideoSource(ROOT / "assets" / "videos" / f"{WHO}.mp4")
    assert (source.width, source.height, source.fps, source.frame_count) == (WIDTH, HEIGHT, FPS, FRAMES)
    assert source.audio()["waveform"].shape[-1] / source.audio()["sample_rate"] == pytest.approx(
        FRAMES / FPS, abs=0.1
    )
