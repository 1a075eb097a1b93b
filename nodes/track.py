"""Lip sync, first stage: one face followed through a video."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .load import SEARCH_ALIASES
from .types import FaceSocket

DetectionModelSocket = io.Custom("FACE_DETECTION_MODEL")
LandmarksSocket = io.Custom("FACE_LANDMARKS")
PICKS = ["largest", "left to right", "nearest to point"]
VARIANTS = ["short", "full", "both"]


class TrackFace(io.ComfyNode):
    """Where the face is in every frame of a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamTrackFace",
            display_name="Track Face",
            category="TalkStream/frames",
            description="Follows one face through a video, frame by frame in constant memory, and finds the shot cuts. "
            "Frames without the face pass through lip sync as they are, and are listed.",
            search_aliases=[*SEARCH_ALIASES, "face detection", "dubbing", "video to video"],
            inputs=[
                io.Video.Input(
                    "video",
                    tooltip="The video to speak anew: any size, any frame rate, with or without sound.",
                ),
                DetectionModelSocket.Input(
                    "face_detection_model",
                    optional=True,
                    tooltip="From core's Load Face Detection Model (MediaPipe): finds the face in any length of video. "
                    "Connect this, or one of the next two, or fill in box.",
                ),
                LandmarksSocket.Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="From core's Detect Face Landmarks (MediaPipe), made from all pictures of the same video. "
                    "For short clips: those pictures are all in memory.",
                ),
                io.BoundingBox.Input(
                    "bboxes",
                    optional=True,
                    force_input=True,
                    tooltip="Boxes around faces, from hairline to chin: one for the whole video, or "
                    "those of each frame.",
                ),
                io.String.Input(
                    "box",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="The face's box by hand, in pixels from hairline to chin: x, y, width, height. "
                    "Several lines 'frame: x, y, width, height' move it; 'frame: none' leaves the video "
                    "as it is from there on.",
                ),
                *cls._choices(),
            ],
            outputs=[
                FaceSocket.Output(display_name="face", tooltip="For Encode Source Video and Paste Face.")
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def _choices(cls) -> list[io.Input]:
        """Which face, how it is looked for, and how its track is made smooth."""
        return [
            io.Combo.Input(
                "pick",
                options=PICKS,
                default=PICKS[0],
                optional=True,
                tooltip="The order in which several faces are counted, at the start of each shot.",
            ),
            io.Int.Input(
                "face_index",
                default=0,
                min=0,
                max=15,
                optional=True,
                tooltip="Which of them in that order; 0: the first.",
            ),
            io.Float.Input(
                "point_x",
                default=0.5,
                min=0.0,
                max=1.0,
                step=0.01,
                optional=True,
                tooltip="For 'nearest to point': 0 is the left edge, 1 the right one.",
            ),
            io.Float.Input(
                "point_y",
                default=0.5,
                min=0.0,
                max=1.0,
                step=0.01,
                optional=True,
                tooltip="For 'nearest to point': 0 is the upper edge, 1 the lower one.",
            ),
            io.Combo.Input(
                "detector_variant",
                options=VARIANTS,
                default=VARIANTS[0],
                optional=True,
                tooltip="short: faces near the camera; full: small ones too, slower; both: what finds more.",
            ),
            io.Float.Input(
                "min_confidence",
                default=0.5,
                min=0.0,
                max=1.0,
                step=0.01,
                optional=True,
                tooltip="Lower it when a covered or small face is missed.",
            ),
            io.Float.Input(
                "smoothing",
                default=1.5,
                min=0.0,
                max=10.0,
                step=0.1,
                optional=True,
                tooltip="Width of the smoothing in frames; 0: none. It does not lag behind a moving head.",
            ),
            io.Int.Input(
                "bridge_frames",
                default=8,
                min=0,
                max=250,
                optional=True,
                tooltip="A face that is lost for no more frames than this is taken to move on evenly; longer losses "
                "pass through.",
            ),
        ]

    @classmethod
    def execute(  # noqa: PLR0913  (one parameter per input)
        cls,
        video: io.Video.Type,
        face_detection_model: object = None,
        face_landmarks: object = None,
        bboxes: object = None,
        box: str = "",
        pick: str = PICKS[0],
        face_index: int = 0,
        point_x: float = 0.5,
        point_y: float = 0.5,
        detector_variant: str = VARIANTS[0],
        min_confidence: float = 0.5,
        smoothing: float = 1.5,
        bridge_frames: int = 8,
    ) -> io.NodeOutput:
        """Follows the face, and shows what was found."""
        from ..streaming.face_choice import FaceChoice
        from .follow import Detections, describe_track, follow_face, picture_track
        from .footage import open_source
        from .host import progress

        face = follow_face(
            open_source(video),
            Detections(face_detection_model, face_landmarks, bboxes, box, detector_variant, min_confidence),
            choice=FaceChoice(pick, face_index, (point_x, point_y)),
            smoothing_frames=smoothing,
            bridge_frames=bridge_frames,
        )
        text = describe_track(face)
        progress.show_text(text)
        shown = {**ui.PreviewImage(picture_track(face), cls=cls).as_dict(), **ui.PreviewText(text).as_dict()}
        return io.NodeOutput(face, ui=shown)
