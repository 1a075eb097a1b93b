"""Lip sync: a tracked face encoded for Stream Chunks, and the faces that come out put back into their video."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .host import paths
from .load import SEARCH_ALIASES
from .types import FaceSocket, Frames, FramesSocket, ReferenceSocket, SourceSocket, TrackedFace

DRAWN = "drawn"
NEW_VOICE, ORIGINAL = "new voice", "video's own"


class EncodeSourceVideo(io.ComfyNode):
    """A video as the latents that a lip-sync student follows, described."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamEncodeSourceVideo",
            display_name="Encode Source Video",
            category="TalkStream/encode",
            description="Prepares a tracked face for Stream Chunks: upright crops, whole and with the mouth "
            "blanked, read and encoded while the stream runs. Nothing of the video stays in memory, and what was "
            "encoded once is not encoded again. Shows the first crop both ways.",
            search_aliases=[*SEARCH_ALIASES, "video to video", "dubbing", "lipsync"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The lip-sync student: Lip Forcing or TalkStream Mini lip sync."
                ),
                io.Vae.Input(
                    "vae",
                    tooltip="The VAE the student was trained with: Wan 2.1 for Lip Forcing, talkstream_mini_vae for "
                    "TalkStream Mini lip sync.",
                ),
                FaceSocket.Input("face", tooltip="From Track Face."),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=2048,
                    step=16,
                    optional=True,
                    advanced=True,
                    tooltip="Side of the square face crops. 0: as trained.",
                ),
                io.Combo.Input(
                    "mask",
                    options=[DRAWN, *paths.input_pictures()],
                    default=DRAWN,
                    optional=True,
                    advanced=True,
                    tooltip="What is painted anew. drawn: our own mask of the trained shape. Or LatentSync's mask.png, "
                    "which Lip Forcing was trained with, from the input folder; another picture is refused.",
                ),
            ],
            outputs=[
                SourceSocket.Output(display_name="source", tooltip="For Stream Chunks."),
                ReferenceSocket.Output(
                    display_name="reference", tooltip="For Stream Chunks: the face of the first frame."
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, model: io.Model.Type, vae: io.Vae.Type, face: TrackedFace, size: int = 0, mask: str = DRAWN
    ) -> io.NodeOutput:
        """Checks the parts, encodes the first frame and shows it."""
        from .host import progress
        from .source_video import describe_source, encode_source

        mask_file = None if mask == DRAWN else paths.input_picture(mask)
        source, reference, shown = encode_source(model, vae, face, size=size, mask_file=mask_file)
        progress.show_text(describe_source(source))
        return io.NodeOutput(source, reference, ui=ui.PreviewImage(shown, cls=cls))


class PasteFace(io.ComfyNode):
    """The stream's faces in their video, described."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamPasteFace",
            display_name="Paste Face",
            category="TalkStream/frames",
            description="Puts the stream's mouths back into the video they were made for, at its own size and rate. "
            "Outside the mouth every pixel stays as it is, and frames without the face pass through. Runs when the "
            "node at the end of the graph pulls.",
            search_aliases=["composite face", "lip sync", "lipsync", "restore face", "paste back"],
            inputs=[
                FramesSocket.Input(
                    "frames", tooltip="From Decode Stream, or Upscale Stream for sharper faces."
                ),
                io.Combo.Input(
                    "sound",
                    options=[NEW_VOICE, ORIGINAL],
                    default=NEW_VOICE,
                    optional=True,
                    tooltip="The sound of the file: the voice of Encode Speech, or the video's own, for a voice that "
                    "was taken out of it.",
                ),
            ],
            outputs=[
                FramesSocket.Output(display_name="frames", tooltip="For Save Stream or Collect Frames.")
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, frames: Frames, sound: str = NEW_VOICE) -> io.NodeOutput:
        """Shows the size, the rate and the length of the result."""
        from .host import progress
        from .pasting import plan_paste

        pasted = plan_paste(frames, original_sound=sound == ORIGINAL)
        text = f"{pasted.width}x{pasted.height}, {float(pasted.fps):g} fps, {pasted.frames} frames"
        progress.show_text(text)
        return io.NodeOutput(pasted, ui=ui.PreviewText(text))
