"""Alignment against LatentSync's numbers, and that pasting back touches only what the mask reaches."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.streaming.face_alignment import (
    align,
    aligned_canvas,
    aligned_square,
    inverse,
    paste,
    points_in_box,
)

POINTS = np.array([[200.0, 150.0], [300.0, 155.0], [250.0, 210.0]])


def smooth_picture(height: int = 320, width: int = 420) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(columns / 23 + k) + np.cos(rows / (17 + 3 * k)) for k in range(3)]
    return (127 + 55 * np.stack(waves, -1)).astype(np.uint8)


def soft_mask(side: int) -> np.ndarray:
    ramp = np.clip((np.abs(np.arange(side) - (side - 1) / 2) - side / 4) / (side / 8), 0, 1)
    return ((1 - ramp)[:, None] * (1 - ramp)[None]).astype(np.float32)


def test_the_published_transform():
    expected = [[2.191991, 0.079768, -351.691284], [-0.079768, 2.191991, -207.016495]]
    assert np.abs(aligned_canvas(POINTS, side=512) - expected).max() < 1e-3


@pytest.mark.parametrize("side", [96, 256, 512])
def test_the_canvas_is_squashed_into_the_square(side):
    """A resize maps pixel edges to pixel edges: (x + 0.5) * side / canvas - 0.5."""
    canvas, square = aligned_canvas(POINTS, side=side), aligned_square(POINTS, side=side)
    for x, y in ((0.0, 0.0), (250.0, 200.0), (419.0, 319.0)):
        on_canvas = canvas @ [x, y, 1]
        scale = side / (np.array([75, 100]) * side / 256 * 2.8)
        assert np.allclose(square @ [x, y, 1], (on_canvas + 0.5) * scale - 0.5, atol=1e-9)


def test_points_on_one_spot_are_refused():
    with pytest.raises(ValueError, match="larger box"):
        aligned_square(points_in_box(np.array([5.0, 5.0, 5.0, 5.0])), side=96)


def test_align_reads_the_picture_at_whole_pixels():
    picture = smooth_picture()
    shift = np.array([[1.0, 0.0, -30.0], [0.0, 1.0, -40.0]])
    assert np.array_equal(align(picture, shift, side=64), picture[40:104, 30:94])


def test_align_is_grey_beyond_the_border():
    picture = smooth_picture()
    crop = align(picture, np.array([[1.0, 0.0, 20.0], [0.0, 1.0, 0.0]]), side=64)
    assert (crop[:, :19] == 127).all()
    assert np.array_equal(crop[:, 20:], picture[:64, :44])
    away = align(picture, np.array([[1.0, 0.0, 9999.0], [0.0, 1.0, 0.0]]), side=16)
    assert (away == 127).all()


def test_a_large_face_is_averaged_into_a_small_crop():
    """Four pixels into one is their mean: nothing flickers, and a chequerboard is grey."""
    board = np.indices((256, 256)).sum(0) % 2 * 255
    picture = np.repeat(board[..., None], 3, -1).astype(np.uint8)
    crop = align(picture, np.array([[0.25, 0.0, -0.375], [0.0, 0.25, -0.375]]), side=64)
    assert np.abs(crop[2:-2, 2:-2].astype(int) - 127.5).max() <= 1


@pytest.mark.parametrize("side", [96, 256, 512])
def test_there_and_back_on_a_smooth_picture(side):
    picture, mask = smooth_picture(), soft_mask(side)
    matrix = aligned_square(POINTS, side=side)
    back = paste(picture, align(picture, matrix, side=side), matrix, mask)
    error = np.abs(back.astype(int) - picture)
    assert error.mean() < 0.05
    assert error.max() <= (2 if side == 96 else 1)


@pytest.mark.parametrize("side", [96, 512])
def test_pixels_that_the_mask_does_not_reach_are_the_pictures_own(side):
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (320, 420, 3), np.uint8)
    crop = np.full((side, side, 3), 255, np.uint8)
    matrix, mask = aligned_square(POINTS, side=side), soft_mask(side)
    before = picture.copy()
    pasted = paste(picture, crop, matrix, mask)
    assert np.array_equal(picture, before)
    rows, columns = np.mgrid[:320, :420]
    place = np.stack([columns, rows, np.ones_like(rows)], -1) @ matrix.T
    half, reach = (side - 1) / 2, 1.5 * side / 512 + 1.5
    outside = (np.abs(place - half) > side * 3 / 8 + reach).any(-1)
    inside = (np.abs(place - half) < side / 4 - reach).all(-1)
    assert outside.sum() > 50_000
    assert inside.sum() > 1_000
    assert np.array_equal(pasted[outside], picture[outside])
    assert (pasted[inside] == 255).all()


def test_a_face_half_outside_is_pasted_where_it_shows():
    picture = smooth_picture()
    matrix = aligned_square(points_in_box(np.array([-60.0, 100.0, 60.0, 250.0])), side=128)
    pasted = paste(picture, np.zeros((128, 128, 3), np.uint8), matrix, soft_mask(128))
    assert (pasted[170:180, :10] < picture[170:180, :10] + 1).all()
    assert np.array_equal(pasted[:, 200:], picture[:, 200:])
    away = aligned_square(points_in_box(np.array([-900.0, 0.0, -800.0, 100.0])), side=128)
    assert np.array_equal(paste(picture, np.zeros((128, 128, 3), np.uint8), away, soft_mask(128)), picture)


def test_paste_says_what_it_got():
    with pytest.raises(ValueError, match="expected \\(side, side, 3\\)"):
        paste(smooth_picture(), np.zeros((64, 64, 3), np.uint8), np.eye(2, 3), soft_mask(32))


def test_inverse_is_the_way_back():
    matrix = aligned_square(POINTS, side=96)
    there = matrix @ [123.0, 45.0, 1]
    assert np.allclose(inverse(matrix) @ [*there, 1], [123.0, 45.0])
