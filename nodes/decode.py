"""Decode stage: latents to pictures, with the VAE's memory carried from chunk to chunk."""

from __future__ import annotations

from comfy_api.latest import io

from .types import FramesSocket, Stream, StreamSocket


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
                io.Vae.Input("vae", tooltip="The VAE that Encode Reference used."),
                io.Combo.Input(
                    "precision",
                    options=["auto", "as loaded"],
                    default="auto",
                    optional=True,
                    advanced=True,
                    tooltip="Number format to decode in. auto takes bf16 on a CPU that is fast at it. as loaded: "
                    "the VAE's own, for the same pictures as VAE Decode.",
                ),
            ],
            outputs=[
                FramesSocket.Output(display_name="frames", tooltip="For Save Stream or Collect Frames.")
            ],
        )

    @classmethod
    def execute(cls, stream: Stream, vae: io.Vae.Type, precision: str = "auto") -> io.NodeOutput:
        """Checks the VAE against the student."""
        from .plan import plan_frames

        return io.NodeOutput(plan_frames(stream, vae, precision=precision))
