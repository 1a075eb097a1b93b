"""Encode stage, several speakers: their voices on one time line, and where each of them is in the picture."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .encode import WINDOWS
from .load import SEARCH_ALIASES
from .types import FaceSocket, SpeechSocket, TrackedFace

TOGETHER, IN_TURN = "together", "one after another"
MOST = 4


class EncodeSpeakers(io.ComfyNode):
    """Two to four voices as the stream will hear them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamEncodeSpeakers",
            display_name="Encode Speakers",
            category="TalkStream/encode",
            description="Prepares the voices of two to four people in one picture, one AUDIO for each, from left to "
            "right or as Speaker Masks says. The file gets all of them mixed.",
            search_aliases=[*SEARCH_ALIASES, "two speakers", "multitalk", "conversation", "dialogue"],
            inputs=[
                io.Model.Input("model", tooltip="The student that will speak: InfiniteTalk."),
                io.Audio.Input(
                    "audio_1", tooltip="The first speaker's voice. Where it is silent, the mouth closes."
                ),
                io.Audio.Input("audio_2", tooltip="The second speaker's voice."),
                io.AudioEncoder.Input(
                    "audio_encoder", tooltip="chinese-wav2vec2-base from models/audio_encoders."
                ),
                io.Combo.Input(
                    "mixing",
                    options=[TOGETHER, IN_TURN],
                    default=TOGETHER,
                    tooltip="together: all voices start at once, and the shorter ones are silent at the end. one after "
                    "another: each starts where the one before ends.",
                ),
                io.Audio.Input("audio_3", optional=True, tooltip="A third speaker's voice."),
                io.Audio.Input("audio_4", optional=True, tooltip="A fourth speaker's voice."),
                io.Combo.Input(
                    "window",
                    options=WINDOWS,
                    default=WINDOWS[0],
                    optional=True,
                    tooltip="How wav2vec2 hears the voices: each as a whole, or a sliding window (constant memory, any "
                    "length). auto: as a whole up to 60 seconds.",
                ),
                io.Float.Input(
                    "limit_seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.1,
                    optional=True,
                    tooltip="Makes only the first seconds, exactly as they would be in the full video. 0: no limit.",
                ),
            ],
            outputs=[SpeechSocket.Output(display_name="speech", tooltip="For Stream Chunks.")],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        audio_1: io.Audio.Type,
        audio_2: io.Audio.Type,
        audio_encoder: io.AudioEncoder.Type,
        mixing: str,
        audio_3: io.Audio.Type | None = None,
        audio_4: io.Audio.Type | None = None,
        window: str = WINDOWS[0],
        limit_seconds: float = 0.0,
    ) -> io.NodeOutput:
        """Checks the voices, puts them on one time line, and shows seconds, frames and chunks."""
        from .conversation import describe_speakers, prepare_speakers
        from .host import progress
        from .voice import with_doubt

        later = [audio for audio in (audio_3, audio_4) if audio is not None]
        speech = prepare_speakers(
            model,
            [audio_1, audio_2, *later],
            encoder=audio_encoder,
            mixing="add" if mixing == IN_TURN else "para",
            window=window,
            limit_seconds=limit_seconds,
        )
        text = with_doubt(describe_speakers(speech), speech, cls.hidden)
        progress.show_text(text)
        return io.NodeOutput(speech, ui=ui.PreviewText(text))


class SpeakerMasks(io.ComfyNode):
    """Where each speaker is in the portrait."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamSpeakerMasks",
            display_name="Speaker Masks",
            category="TalkStream/encode",
            description="Says where each speaker is in the portrait, by painted masks, faces or boxes, and shows it. "
            "Left as it is, the speakers stand side by side.",
            search_aliases=["two speakers", "regions", "boxes", "multitalk"],
            inputs=[
                io.Image.Input("image", tooltip="The portrait, as Encode Reference gets it."),
                io.Int.Input(
                    "speakers",
                    default=2,
                    min=2,
                    max=MOST,
                    tooltip="How many there are. Not read where boxes, faces or masks are given.",
                ),
                io.String.Input(
                    "boxes",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="One line for each speaker: left, top, right, bottom, as parts of the picture from 0 to 1. "
                    "Empty: side by side.",
                ),
                *(
                    io.Mask.Input(
                        f"mask_{number}",
                        optional=True,
                        tooltip=f"Painted mask of speaker {number}, in the picture's proportions. Masks go before "
                        "boxes.",
                    )
                    for number in range(1, MOST + 1)
                ),
                *(
                    FaceSocket.Input(
                        f"face_{number}",
                        optional=True,
                        tooltip=f"Speaker {number}'s face in this picture, from Track Face behind Create Video. "
                        "Faces go before boxes, painted masks before faces.",
                    )
                    for number in range(1, MOST + 1)
                ),
            ],
            outputs=[io.Mask.Output(tooltip="One mask for each speaker, for Encode Reference.")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        speakers: int,
        boxes: str = "",
        mask_1: io.Mask.Type | None = None,
        mask_2: io.Mask.Type | None = None,
        mask_3: io.Mask.Type | None = None,
        mask_4: io.Mask.Type | None = None,
        face_1: TrackedFace | None = None,
        face_2: TrackedFace | None = None,
        face_3: TrackedFace | None = None,
        face_4: TrackedFace | None = None,
    ) -> io.NodeOutput:
        """Makes the masks and shows them over the picture."""
        from .conversation import speaker_masks, tinted

        painted = [mask for mask in (mask_1, mask_2, mask_3, mask_4) if mask is not None]
        faces = [face for face in (face_1, face_2, face_3, face_4) if face is not None]
        masks_PHW = speaker_masks(image, painted=painted, boxes=boxes, speakers=speakers, faces=faces)
        return io.NodeOutput(masks_PHW, ui=ui.PreviewImage(tinted(image, masks_PHW), cls=cls))
