"""Boxes of speakers around their faces; masks on the token grid are compared with a golden in tests/golden."""

from __future__ import annotations

import pytest

from talkstream.streaming.speakers import boxes_around_faces


def test_a_quarter_more_on_every_side_within_the_picture():
    boxes = boxes_around_faces([(0.1, 0.2, 0.3, 0.6), (0.6, 0.0, 1.0, 0.4)])
    assert boxes[0] == pytest.approx((0.05, 0.1, 0.35, 0.7))
    assert boxes[1] == pytest.approx((0.5, 0.0, 1.0, 0.5))


def test_faces_side_by_side_stay_as_they_are():
    """Grown, the first two would meet; none is grown then, so that all are treated alike."""
    faces = [(0.1, 0.2, 0.3, 0.6), (0.35, 0.2, 0.55, 0.6), (0.9, 0.9, 1.0, 1.0)]
    assert boxes_around_faces(faces) == faces
    above = [(0.1, 0.1, 0.5, 0.3), (0.1, 0.5, 0.5, 0.8)]  # the same columns, rows apart
    assert boxes_around_faces(above)[0] == pytest.approx((0.0, 0.05, 0.6, 0.35))
