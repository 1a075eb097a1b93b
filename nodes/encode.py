"""Encode stage: a voice (lazily) and an identity picture (at once) as the student needs them."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .load import SEARCH_ALIASES
from .types import ReferenceSocket, SpeechSocket

WINDOWS = ["auto", "whole clip", "windows"]
FITS = ["cover (crop)", "contain (bars)", "stretch"]


class EncodeSpeech(io.ComfyNode):
    """A voice as the stream will hear it; features are computed while the stream runs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamEncodeSpeech",
            display_name="Encode Speech",
            category="TalkStream/encode",
            description="Prepares a voice for Stream Chunks and shows how long the video will be. "
            "The file gets the original sound, at its own rate and channels.",
            search_aliases=[*SEARCH_ALIASES, "wav2vec2", "audio encoder", "voice"],
            inputs=[
                io.Model.Input("model", tooltip="The student that will speak."),
                io.Audio.Input(
                    "audio", tooltip="The voice, at any rate, mono or stereo. One recording at a time."
                ),
                io.AudioEncoder.Input(
                    "audio_encoder",
                    optional=True,
                    tooltip="wav2vec2-base-960h from models/audio_encoders for LiveTalk and Lip Forcing, "
                    "chinese-wav2vec2-base for FlashTalk and InfiniteTalk. TalkStream Mini brings its own: leave it "
                    "open.",
                ),
                io.Combo.Input(
                    "window",
                    options=WINDOWS,
                    default="auto",
                    optional=True,
                    tooltip="How wav2vec2 hears the voice: the whole clip at once, or a sliding window (constant "
                    "memory, any length). auto: the whole clip up to 60 seconds. Not used by TalkStream Mini.",
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
        audio: io.Audio.Type,
        audio_encoder: io.AudioEncoder.Type | None = None,
        window: str = "auto",
        limit_seconds: float = 0.0,
    ) -> io.NodeOutput:
        """Checks the voice, keeps it, and shows seconds, frames and chunks."""
        from .host import progress
        from .voice import describe_speech, prepare_speech, with_doubt

        speech = prepare_speech(
            model, audio, encoder=audio_encoder, window=window, limit_seconds=limit_seconds
        )
        text = with_doubt(describe_speech(speech), speech, cls.hidden)
        progress.show_text(text)
        return io.NodeOutput(speech, ui=ui.PreviewText(text))


class EncodeReference(io.ComfyNode):
    """A portrait as the student's reference latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamEncodeReference",
            display_name="Encode Reference",
            category="TalkStream/encode",
            description="Fits a portrait to the student's size, encodes it and shows the crop.",
            search_aliases=[*SEARCH_ALIASES, "portrait", "identity"],
            inputs=[
                io.Model.Input("model", tooltip="The student that will speak."),
                io.Vae.Input(
                    "vae",
                    tooltip="The VAE the student was trained with: Wan 2.1 for LiveTalk, Lip Forcing, FlashTalk and "
                    "InfiniteTalk, talkstream_mini_vae for TalkStream Mini.",
                ),
                io.Image.Input("image", tooltip="One portrait: a single face, looking at the camera."),
                io.Int.Input(
                    "width", default=0, min=0, max=4096, step=16, tooltip="Width of the video. 0: as trained."
                ),
                io.Int.Input(
                    "height",
                    default=0,
                    min=0,
                    max=4096,
                    step=16,
                    tooltip="Height of the video. 0: as trained.",
                ),
                io.Combo.Input(
                    "fit",
                    options=FITS,
                    default=FITS[0],
                    optional=True,
                    tooltip="cover fills the frame and crops what sticks out, contain shows all of the picture "
                    "between bars, stretch ignores its proportions.",
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_output",
                    optional=True,
                    tooltip="The same portrait through CLIP Vision Encode, with clip_vision_h and crop none. Needed by "
                    "FlashTalk and InfiniteTalk, not used by others.",
                ),
                io.Mask.Input(
                    "speaker_masks",
                    optional=True,
                    tooltip="Where each of several speakers is, from Speaker Masks. Open: side by side.",
                ),
            ],
            outputs=[ReferenceSocket.Output(display_name="reference", tooltip="For Stream Chunks.")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        vae: io.Vae.Type,
        image: io.Image.Type,
        width: int = 0,
        height: int = 0,
        fit: str = FITS[0],
        clip_vision_output: io.ClipVisionOutput.Type | None = None,
        speaker_masks: io.Mask.Type | None = None,
    ) -> io.NodeOutput:
        """Crops, encodes, and shows the crop on the node."""
        from .portrait import encode_portrait

        reference, crop = encode_portrait(
            model,
            vae,
            image,
            width=width,
            height=height,
            fit=fit,
            seen=clip_vision_output,
            masks_PHW=speaker_masks,
        )
        return io.NodeOutput(reference, ui=ui.PreviewImage(crop, cls=cls))
