"""Decode stage: latents to pictures, with the VAE's memory carried from chunk to chunk."""

from __future__ import annotations

from comfy_api.latest import io

from .types import FramesSocket, Stream, StreamSocket

TINY_SCALES = ["auto", "normalised (taew2_1)", "raw (lighttaew2_1)"]


class DecodeStream(io.ComfyNode):
    """A stream of pictures, described."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamDecodeStream",
            display_name="Decode Stream",
            category="TalkStream/decode",
            description="Turns the stream's latents into pictures as they come, equal to decoding the whole clip. "
            "Shows a live preview while the graph runs.",
            search_aliases=["vae decode", "streaming decode"],
            inputs=[
                StreamSocket.Input("stream", tooltip="From Stream Chunks."),
                io.Vae.Input(
                    "vae",
                    tooltip="The VAE that Encode Reference used, or a tiny decoder of Wan 2.1 (taew2_1, lighttaew2_1): "
                    "much faster, with softer mouths and teeth.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", "as loaded", "exact"],
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="Number format to decode in. auto: bf16 on a CPU that is fast at it, else the VAE's own. "
                    "as loaded: the VAE's own; differs from VAE Decode by rounding. exact: the VAE's own and core's "
                    "order of sums, about four times slower on a CPU.",
                ),
                io.Vae.Input(
                    "preview_vae",
                    optional=True,
                    tooltip="A tiny decoder for the live preview alone; the file is decoded by vae. The preview then "
                    "comes before the slow decoder has run.",
                ),
                io.Combo.Input(
                    "tiny_latents",
                    options=TINY_SCALES,
                    default=TINY_SCALES[0],
                    optional=True,
                    advanced=True,
                    tooltip="Which latents a tiny decoder was trained on. auto goes by its file name, then by its "
                    "number format; wrong colours mean that the other one is right.",
                ),
            ],
            outputs=[
                FramesSocket.Output(display_name="frames", tooltip="For Save Stream or Collect Frames.")
            ],
        )

    @classmethod
    def execute(
        cls,
        stream: Stream,
        vae: io.Vae.Type,
        precision: str = "auto",
        preview_vae: io.Vae.Type | None = None,
        tiny_latents: str = TINY_SCALES[0],
    ) -> io.NodeOutput:
        """Checks the VAEs against the student and shows what the run will hold in memory."""
        from .budget import describe_memory
        from .host import progress
        from .plan import plan_frames

        frames = plan_frames(
            stream, vae, precision=precision, preview_vae=preview_vae, tiny_scale=tiny_latents.split(" ")[0]
        )
        progress.show_text(describe_memory(frames))
        return io.NodeOutput(frames)
