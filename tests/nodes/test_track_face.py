"""Track Face on real files: every hard case of a video, through the host's VIDEO and a detector of core's form."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from talkstream.tests.nodes.client import run
from talkstream.tests.nodes.face_model import WhiteSquares, draw
from talkstream.tests.nodes.graphs import node
from talkstream.tests.videos import turn, write_video

pytestmark = pytest.mark.host
RIGHT, LEFT = (60, 20, 24, 30), (10, 20, 20, 25)


def follow(video, *, choice=None, **detections):
    from talkstream.nodes.follow import Detections, follow_face
    from talkstream.nodes.footage import open_source
    from talkstream.streaming.face_choice import FaceChoice

    source = open_source(video)
    if not {"text", "boxes", "model"} & detections.keys():
        detections["model"] = WhiteSquares()
    return follow_face(
        source, Detections(**detections), choice=choice or FaceChoice(), smoothing_frames=1.5, bridge_frames=8
    )


def on_disk(path, pictures, **options):
    from comfy_api.latest import InputImpl

    return InputImpl.VideoFromFile(str(write_video(path, pictures, **options)))


def told(face) -> str:
    from talkstream.nodes.follow import describe_track

    return describe_track(face)


@pytest.fixture
def path(host, tmp_path):
    return tmp_path / "a.mp4"


def test_a_loss_of_40_frames_a_cut_and_no_sound(path):
    pictures = [draw(RIGHT, level=150 if 20 <= k < 60 else 235) for k in range(70)]
    pictures += [draw(LEFT, background=150) for _ in range(20)]
    model = WhiteSquares()
    face = follow(on_disk(path, pictures), model=model)
    assert np.flatnonzero(~face.track.found_F).tolist() == list(range(20, 60))
    assert np.flatnonzero(np.diff(face.track.segments_F)).tolist() == [69]
    assert np.abs(face.track.boxes_F4[30] - [60, 20, 84, 50]).max() <= 1
    assert np.abs(face.track.boxes_F4[80] - [10, 20, 30, 45]).max() <= 1
    assert face.source.audio() is None
    assert max(count for count, _ in model.calls) == 8
    assert "96x64, 25 fps, 90 frames (3.6 s), 2 shots" in told(face)
    assert "passes through: frames 20-59 (0.8-2.4 s, no face)" in told(face)


def test_two_people_and_both_detectors(path):
    from talkstream.streaming.face_choice import FaceChoice

    pictures = [draw(LEFT, RIGHT) for _ in range(4)]
    video = on_disk(path, pictures)
    assert follow(video).track.boxes_F4[0, 0] == pytest.approx(60, abs=1)
    assert follow(video, choice=FaceChoice("left to right", 0)).track.boxes_F4[0, 0] == pytest.approx(
        10, abs=1
    )
    grey = on_disk(path.with_name("b.mp4"), [draw(RIGHT, level=185)] * 3)
    with pytest.raises(ValueError, match="no face was found in any of the 3 frames"):
        follow(grey)
    assert follow(grey, model=WhiteSquares(), variant="both").track.found_F.all()


def test_a_variable_rate_keeps_time(path):
    """Frame 3 stays on the screen for half a second; the result repeats it."""
    ticks = [0, 3000, 6000, 9000, 54000, 57000]
    face = follow(on_disk(path, [draw(RIGHT)] * 6, ticks=ticks, fps=Fraction(30)))
    assert face.clock.sources_K.tolist() == [0, 1, 2, *[3] * 15, 4, 5]
    assert "30 fps (from a variable rate), 6 frames (0.7 s)" in told(face)


def test_a_turned_ten_bit_phone_video(path):
    """The square is at x 60, y 20 of the upright picture; the file holds it lying on its side, in 10 bits."""
    from comfy_api.latest import InputImpl

    stored = [np.ascontiguousarray(np.rot90(draw(RIGHT)))] * 3
    turn(write_video(path, stored, pixels="yuv420p10le"), 90)
    face = follow(InputImpl.VideoFromFile(str(path)))
    assert (face.track.width, face.track.height) == (96, 64)
    assert np.abs(face.track.boxes_F4[0] - [60, 20, 84, 50]).max() <= 1


def test_a_video_made_of_pictures_is_read_as_it_is(host):
    """Core's Create Video: no encoder in between, odd sizes too."""
    from comfy_api.latest import InputImpl, Types

    images = torch.from_numpy(np.stack([draw(RIGHT)[:63, :95]] * 3)).float() / 255
    parts = Types.VideoComponents(images=images, audio=None, frame_rate=Fraction(30000, 1001))
    face = follow(InputImpl.VideoFromComponents(parts))
    assert face.clock.fps == Fraction(30000, 1001)
    assert np.array_equal(next(face.source.frames()).picture, draw(RIGHT)[:62, :94])


def test_a_trimmed_video(path):
    pictures = [draw(LEFT) if k < 10 else draw(RIGHT) for k in range(30)]
    video = on_disk(path, pictures, sound=True).as_trimmed(0.4, 0.4)
    face = follow(video)
    assert face.track.frames == 10
    assert np.abs(face.track.boxes_F4[:, 0] - 60).max() <= 1
    assert face.source.audio()["waveform"].shape == (1, 1, 6400)


def test_boxes_by_hand_need_no_detector(path):
    video = on_disk(path, [draw()] * 4)
    face = follow(video, text="1: 60, 20, 24, 30\n3: none")
    assert face.track.found_F.tolist() == [True, True, True, False]
    wired = follow(video, boxes={"x": 1, "y": 2, "width": 30, "height": 40})
    assert wired.track.boxes_F4[3] == pytest.approx([1, 2, 31, 42])


@pytest.mark.parametrize(
    ("detections", "words"),
    [
        ({"text": " "}, "got nothing to find the face by"),
        ({"text": "1,2,30,40", "boxes": {}}, "got bboxes and box to find the face by; expected one of"),
        ({"model": "a string"}, "got str as face_detection_model"),
    ],
)
def test_one_way_to_find_the_face(path, detections, words):
    with pytest.raises(ValueError, match=words):
        follow(on_disk(path, [draw()] * 2), **detections)


def test_cores_own_node_and_small_batches_find_the_same(path):
    """Core's detector with random weights: its node on the whole clip, ours one picture at a time."""
    from comfy_extras import nodes_mediapipe

    from talkstream.nodes.host.faces import face_detector

    model = core_model(nodes_mediapipe)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    images = torch.from_numpy(pictures).float() / 255
    with torch.inference_mode():  # as the host runs nodes
        made = nodes_mediapipe.MediaPipeFaceLandmarker.execute(model, images, "short", 16, 0.0, "empty")
        detect = face_detector(model, variant="short", confidence=0.0)
        ours = detect(0, list(pictures[:1])) + detect(1, list(pictures[1:]))
    theirs = made[0]["frames"]
    assert [len(frame) for frame in ours] == [len(frame) for frame in theirs]
    assert sum(map(len, ours)) >= 2
    for frame, other in zip(ours, theirs, strict=True):
        for face, expected in zip(frame, other, strict=True):
            assert np.allclose(face.box_4, expected["bbox_xyxy"], rtol=1e-3, atol=1e-2)
            assert np.allclose(
                face.points_32[0], expected["landmarks_xy"][[70, 63, 105, 66, 107]].mean(0), rtol=1e-3
            )


def core_model(nodes_mediapipe):
    """Core's FaceLandmarkerModel out of a state dict with the names of its file, and random numbers."""
    from comfy_extras.mediapipe.face_landmarker import FaceLandmarker

    torch.manual_seed(1)
    tensors = {}
    for variant in ("short", "full"):
        network = FaceLandmarker(device="cpu", dtype=torch.float32, operations=None, detector_variant=variant)
        for name, tensor in network.state_dict().items():
            value = torch.randn_like(tensor) * 0.05 if tensor.is_floating_point() else tensor
            tensors[name.replace("detector.", f"detector_{variant}.", 1)] = value
    for part in (
        "face_oval",
        "left_eye",
        "right_eye",
        "left_eyebrow",
        "right_eyebrow",
        "lips",
        "irises",
        "nose",
    ):
        tensors[f"topology.{part}"] = torch.tensor([[0, 1]], dtype=torch.int32)
    tensors["canonical_vertices"] = torch.randn(468, 3)
    tensors["procrustes_indices"] = torch.tensor([33, 263, 61, 291, 199])
    tensors["procrustes_weights"] = torch.ones(5)
    return nodes_mediapipe.FaceLandmarkerModel(tensors)


def test_the_node_in_a_graph(host_server):
    """Boxes on the node, the list of frames that pass, and one sentence for a broken file."""
    folder = host_server.base / "input"
    write_video(folder / "track.mp4", [draw(RIGHT)] * 3 + [draw()] * 12)
    (folder / "broken.mp4").write_bytes(b"nothing to see")
    graph = {
        "1": node("LoadVideo", file="track.mp4"),
        "2": node("TalkStreamTrackFace", video=["1", 0], box="60, 20, 24, 30\n3: none"),
        "3": node("PreviewAny", source=["2", 0]),
    }
    result = run(host_server, graph)
    assert result.error == ""
    assert "passes through: frames 3-14" in result.outputs["2"]["text"][0]
    assert len(result.outputs["2"]["images"]) == 1
    graph["1"]["inputs"]["file"] = "broken.mp4"
    assert "broken.mp4 cannot be read as a video" in run(host_server, graph).error
