"""A face is followed through losses, cuts, other people and profile turns: drawn frames, invented detections."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from talkstream.streaming.face_alignment import points_in_box
from talkstream.streaming.face_choice import Face, FaceChoice
from talkstream.streaming.faces import FacelessRun, is_turned_away, track_face

HEIGHT, WIDTH = 120, 160


def face(x: float, y: float = 40, size: float = 40) -> Face:
    box = np.array([x, y, x + size, y + size])
    return Face(points_in_box(box), box)


def pictures(count: int, *, cuts: tuple[int, ...] = (), flashes: tuple[int, ...] = ()) -> list[np.ndarray]:
    """Noisy frames; the grey changes by 80 levels at each cut, for one frame at each flash."""
    rng = np.random.default_rng(0)
    drawn = []
    for number in range(count):
        grey = 60 + 80 * (sum(number >= cut for cut in cuts) % 2) + 120 * (number in flashes)
        drawn.append(np.clip(grey + rng.normal(0, 8, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8))
    return drawn


def track(shown: list[np.ndarray], faces: list[list[Face]], **rest: object):
    seen = []

    def detect(first: int, batch: list[np.ndarray]) -> list[list[Face]]:
        assert first == len(seen)
        seen.extend(batch)
        assert len(batch) <= 8
        return faces[first : first + len(batch)]

    made = track_face(iter(shown), detect, choice=rest.pop("choice", FaceChoice()), **rest)
    assert len(seen) == len(shown)
    return made


def test_a_steady_move_stays_where_it_is():
    """A smoothing that lags would leave the mouth behind the head."""
    made = track(pictures(40), [[face(10 + 2.0 * number)] for number in range(40)], smoothing_frames=2.0)
    assert np.allclose(made.boxes_F4[:, 0], 10 + 2.0 * np.arange(40), atol=1e-9)
    assert made.found_F.all()
    assert made.faceless == ()


def test_trembling_detections_are_smoothed():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, 60)
    made = track(pictures(60), [[face(50 + shift)] for shift in noise], smoothing_frames=2.0)
    assert made.boxes_F4[:, 0].std() < 0.5 * noise.std()
    rough = track(pictures(60), [[face(50 + shift)] for shift in noise], smoothing_frames=0)
    assert np.allclose(rough.boxes_F4[:, 0], 50 + noise)


def test_40_lost_frames_pass_and_are_listed():
    faces = [[] if 30 <= number < 70 else [face(20 + number / 2)] for number in range(100)]
    made = track(pictures(100), faces)
    assert made.faceless == (FacelessRun(30, 70, "no face"),)
    assert np.flatnonzero(~made.found_F).tolist() == list(range(30, 70))
    assert np.isfinite(made.points_F32).all()


def test_a_short_loss_is_drawn_in_between():
    faces = [[] if 10 <= number < 16 else [face(20 + number)] for number in range(30)]
    made = track(pictures(30), faces, smoothing_frames=0, bridge_frames=6)
    assert made.found_F.all()
    assert np.allclose(made.boxes_F4[:, 0], 20 + np.arange(30))
    assert track(pictures(30), faces, bridge_frames=5).faceless == (FacelessRun(10, 16, "no face"),)


def test_a_cut_begins_a_segment_and_smoothing_stops_there():
    faces = [[face(10 if number < 13 else 90)] for number in range(25)]
    made = track(pictures(25, cuts=(13,)), faces, smoothing_frames=3.0)
    assert made.segments_F.tolist() == [0] * 13 + [1] * 12
    assert np.allclose(made.boxes_F4[:13, 0], 10)
    assert np.allclose(made.boxes_F4[13:, 0], 90)


def test_cuts_near_the_ends_count_and_flashes_do_not():
    one = [[face(10)]] * 30
    assert np.flatnonzero(np.diff(track(pictures(30, cuts=(1, 12, 29)), one).segments_F)).tolist() == [
        0,
        11,
        28,
    ]
    assert track(pictures(30, flashes=(10, 20, 21)), one).segments_F.tolist() == [0] * 30


def test_something_large_before_the_lens_is_no_cut():
    shown = pictures(30)
    for picture in shown[10:20]:
        picture[40:100, 60:110] = 255
    assert track(shown, [[face(10)]] * 30).segments_F.tolist() == [0] * 30


def test_only_a_few_pictures_are_in_memory():
    alive, most = weakref.WeakSet(), 0

    def stream():
        nonlocal most
        for number in range(100):
            picture = np.full((HEIGHT, WIDTH, 3), number, np.uint8).view(Counted)
            alive.add(picture)
            most = max(most, len(alive))
            yield picture
            del picture

    track_face(stream(), lambda first, batch: [[face(10)]] * len(batch), choice=FaceChoice())
    assert most <= 2 * 8


class Counted(np.ndarray):
    """An array that can be counted while it lives."""

    __hash__ = object.__hash__


def test_a_gap_does_not_bridge_a_cut():
    faces = [[face(10)] if number < 10 else [] if number < 13 else [face(90)] for number in range(25)]
    made = track(pictures(25, cuts=(12,)), faces)
    assert made.faceless == (FacelessRun(10, 13, "no face"),)
    assert made.segments_F.tolist() == [0] * 12 + [1] * 13


@pytest.mark.parametrize(
    ("choice", "x"),
    [
        (FaceChoice(), 100),
        (FaceChoice("largest", 1), 20),
        (FaceChoice("left to right", 0), 20),
        (FaceChoice("left to right", 1), 100),
        (FaceChoice("nearest to point", 0, (0.2, 0.5)), 20),
    ],
)
def test_of_two_people_the_chosen_one_is_followed(choice, x):
    """Detections come in any order, and the other person grows larger on the way."""
    faces = []
    for number in range(20):
        pair = [face(20, size=36 + (number > 5) * 8), face(100, size=40)]
        faces.append(pair if number % 2 else pair[::-1])
    assert np.allclose(track(pictures(20), faces, choice=choice, smoothing_frames=0).boxes_F4[:, 0], x)


def test_the_other_person_never_stands_in():
    faces = [[face(100)] if 10 <= number < 50 else [face(20), face(100)] for number in range(60)]
    made = track(pictures(60), faces, choice=FaceChoice("left to right", 0))
    assert made.faceless == (FacelessRun(10, 50, "no face"),)
    assert np.allclose(made.boxes_F4[:, 0], 20)


def test_one_who_is_alone_may_come_back_elsewhere():
    faces = [[face(10)] if number < 10 else [] if number < 30 else [face(110)] for number in range(40)]
    made = track(pictures(40), faces, smoothing_frames=0)
    assert made.faceless == (FacelessRun(10, 30, "no face"),)
    assert made.boxes_F4[35, 0] == 110


def test_a_profile_turn_passes_and_is_listed():
    """Turning away, the brows come together; the crop would zoom in on half a face."""
    faces = []
    for number in range(60):
        turned = face(50)
        brows_apart = abs(np.cos(np.pi * number / 60))
        turned.points_32[:2, 0] = 70 + (turned.points_32[:2, 0] - 70) * brows_apart
        faces.append([turned])
    made = track(pictures(60), faces, smoothing_frames=0)
    (run,) = made.faceless
    assert run.reason == "turned away"
    assert (run.first, run.stop) == (24, 37)
    zoom = [np.linalg.norm(made.matrix_at(number, side=96)[0, :2]) for number in range(60)]
    assert max(zoom[24:37]) <= max(zoom[23], zoom[37]) + 1e-9
    assert max(zoom) < 2 * zoom[0]


@pytest.mark.parametrize(
    ("yaw", "away"), [(0, False), (30, False), (50, False), (70, True), (85, True), (110, True)]
)
@pytest.mark.parametrize("roll", [0, 40, 180])
def test_turned_away_is_past_60_degrees_however_the_head_is_tilted(yaw, away, roll):
    """A head in 3D: brows 80 apart, the nose 62 lower and 35 in front of them."""
    solid = np.array([[-40.0, 0.0, 0.0], [40.0, 0.0, 0.0], [0.0, 62.0, 35.0]])
    turn, tilt = np.deg2rad(yaw), np.deg2rad(roll)
    seen = np.stack([solid[:, 0] * np.cos(turn) + solid[:, 2] * np.sin(turn), solid[:, 1]], -1)
    rolled = seen @ np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    assert is_turned_away(rolled) is away


def test_only_profiles_are_one_sentence():
    sideways = face(50)
    sideways.points_32[:2, 0] = 70
    with pytest.raises(ValueError, match="turned away in every frame"):
        track(pictures(9), [[sideways]] * 9)


def test_a_shot_without_faces_passes_whole():
    faces = [[face(10)] if number < 12 else [] for number in range(24)]
    made = track(pictures(24, cuts=(12,)), faces)
    assert made.faceless == (FacelessRun(12, 24, "no face"),)
    assert np.isfinite(made.matrix_at(20, side=96)).all()


def test_no_face_at_all_is_one_sentence():
    with pytest.raises(ValueError, match="no face was found in any of the 9 frames"):
        track(pictures(9), [[]] * 9)


def test_fewer_faces_than_the_chosen_number_is_one_sentence():
    with pytest.raises(ValueError, match="at most 1"):
        track(pictures(9), [[face(10)]] * 9, choice=FaceChoice("largest", 1))


def test_a_size_that_changes_on_the_way_is_refused():
    with pytest.raises(ValueError, match="changes from 160x120 to 80x60"):
        track([*pictures(3), np.zeros((60, 80, 3), np.uint8)], [[face(10)]] * 4)


def test_a_track_does_not_depend_on_how_pictures_arrive():
    shown, faces = pictures(30, cuts=(11,)), [[face(10 + number)] for number in range(30)]
    one, other = track(shown, faces), track(shown, faces)
    assert np.array_equal(one.points_F32, other.points_F32)
    assert one.matrix_at(7, side=96).shape == (2, 3)
