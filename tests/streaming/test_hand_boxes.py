"""Boxes given by hand, and core's landmarks and boxes, become one list of faces per frame."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.streaming.face_landmarks import face_of_landmarks, frames_of_landmarks
from talkstream.streaming.hand_boxes import boxes_of_text, boxes_of_wire


def edges(faces: list[list]) -> list[list[float] | None]:
    return [frame[0].box_4.tolist() if frame else None for frame in faces]


def written(text: str, *, frames: int) -> list[list]:
    return [*map(boxes_of_text(text), range(frames))]


def test_four_numbers_are_a_box_for_every_frame():
    assert edges(written("10, 20, 30, 40", frames=3)) == [[10, 20, 40, 60]] * 3
    (face,) = boxes_of_text("[10 20 30 40]")(0)
    assert face.points_32 == pytest.approx(np.array([[17.8, 30.8], [32.2, 30.8], [25.0, 41.2]]))


def test_lines_move_the_box_and_none_takes_it_away():
    text = "0: 0, 0, 10, 10\n4: 8, 0, 10, 10\n6: none\n8: 50, 0, 10, 10\n"
    lefts = [None if box is None else box[0] for box in edges(written(text, frames=11))]
    assert lefts == [0, 2, 4, 6, 8, 8, None, None, 50, 50, 50]
    assert [box[0] for box in edges(written("2: 5, 0, 9, 9; 4: 7, 0, 9, 9", frames=6))] == [
        5,
        5,
        5,
        6,
        7,
        7,
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected x, y, width, height"),
        ("10, 20, 30", "the line '10, 20, 30'"),
        ("10, 20, thirty, 40", "the line"),
        ("10, 20, nan, 40", "the line"),
        ("10, 20, 0, 40", "0 x 40 pixels"),
        ("0: none", "expected x, y, width, height"),
        ("3: 1,1,9,9\n3: 2,2,9,9", "each frame can be given once"),
    ],
)
def test_other_texts_are_refused_in_a_sentence(text, words):
    with pytest.raises(ValueError, match=words):
        boxes_of_text(text)


def test_boxes_of_other_nodes():
    box = {"x": 10, "y": 20, "width": 30, "height": 40}
    assert edges(boxes_of_wire(box, frames=2)) == [[10, 20, 40, 60]] * 2
    assert edges(boxes_of_wire([[box]], frames=2)) == [[10, 20, 40, 60]] * 2
    assert edges(boxes_of_wire([[box], [], None], frames=3)) == [[10, 20, 40, 60], None, None]
    assert edges(boxes_of_wire([box, box | {"x": 0}], frames=2)) == [[10, 20, 40, 60], [0, 20, 30, 60]]
    with pytest.raises(ValueError, match="boxes for 2 pictures, the video has 3 frames"):
        boxes_of_wire([[box], [box]], frames=3)
    with pytest.raises(ValueError, match="lacks height, width"):
        boxes_of_wire({"x": 1, "y": 2}, frames=1)


def test_the_points_of_a_mesh_are_the_means_of_its_parts():
    landmarks = np.arange(478 * 2, dtype=np.float32).reshape(478, 2)
    face = face_of_landmarks(landmarks, np.array([1, 2, 3, 4], np.float32))
    means = [(70 + 63 + 105 + 66 + 107) / 5, (336 + 296 + 334 + 293 + 300) / 5]
    means.append((6 + 5 + 1 + 2 + 129 + 240 + 2 + 460 + 358) / 9)
    assert np.allclose(face.points_32, [[2 * mean, 2 * mean + 1] for mean in means])
    with pytest.raises(ValueError, match="468 or more"):
        face_of_landmarks(landmarks[:68], np.zeros(4))


def test_landmarks_must_come_from_the_same_video():
    face = {"landmarks_xy": np.zeros((478, 2)), "bbox_xyxy": np.array([0, 0, 9, 9])}
    made = {"frames": [[face], []], "image_size": (65, 97)}
    assert [len(frame) for frame in frames_of_landmarks(made, width=96, height=64, frames=2)] == [1, 0]
    with pytest.raises(ValueError, match="cover 2 pictures, the video has 3 frames"):
        frames_of_landmarks(made, width=96, height=64, frames=3)
    with pytest.raises(ValueError, match="pictures of 97x65, the video has 48x64"):
        frames_of_landmarks(made, width=48, height=64, frames=2)
