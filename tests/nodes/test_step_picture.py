"""Step Schedule draws its noise levels against the sync window, and still hands them on."""

from __future__ import annotations

import io
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from talkstream.tests.nodes.client import changed, run
from talkstream.tests.nodes.graphs import STREAM, node, tiny

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]

SCHEDULE = "30"
WINDOW, DOT = (52, 74, 60), (240, 190, 90)
WIDTH, MARGIN = 384, 16


def column(sigma: float) -> int:
    return round(MARGIN + (1 - sigma) * (WIDTH - 2 * MARGIN))


def test_the_picture_shows_steps_and_window(host_server):
    """Two levels of the preset, one outside and one inside the shaded band from .882 to .556."""
    graph = changed(tiny(seconds=0.1), **{f"n{STREAM}": {"sigmas": [SCHEDULE, 0]}})
    graph[SCHEDULE] = node("TalkStreamStepSchedule", preset="two-step sync window", shift=5.0)
    result = run(host_server, graph)
    assert result.error == ""
    (picture,) = result.outputs[SCHEDULE]["images"]
    png = host_server.request("/view?" + urllib.parse.urlencode(picture))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert pixels.shape == (128, WIDTH, 3)
    middle = pixels[64]
    assert [tuple(middle[column(sigma)]) for sigma in (0.999, 0.769)] == [DOT, DOT]
    shaded = [x for x in range(WIDTH) if tuple(pixels[20, x]) == WINDOW]
    assert abs(shaded[0] - column(0.882)) <= 1
    assert abs(shaded[-1] - column(0.556)) <= 1
