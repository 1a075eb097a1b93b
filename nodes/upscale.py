"""Frames stage: what happens to a stream's pictures between decoding and writing."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .types import Frames, FramesSocket


class UpscaleStream(io.ComfyNode):
    """A stream of larger pictures, described."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamUpscaleStream",
            display_name="Upscale Stream",
            category="TalkStream/frames",
            description="Makes the stream's pictures larger with an upscale model, chunk by chunk in constant memory. "
            "Runs when the node at the end of the graph pulls.",
            search_aliases=["upscale video", "super resolution", "esrgan", "enlarge"],
            inputs=[
                FramesSocket.Input("frames", tooltip="From Decode Stream."),
                io.UpscaleModel.Input("upscale_model", tooltip="From core's Load Upscale Model."),
            ],
            outputs=[
                FramesSocket.Output(display_name="frames", tooltip="For Save Stream or Collect Frames.")
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, frames: Frames, upscale_model: io.UpscaleModel.Type) -> io.NodeOutput:
        """Checks the model and shows the new size."""
        from .enlarge import plan_upscale
        from .host import progress

        larger = plan_upscale(frames, upscale_model)
        arrow = "\N{RIGHTWARDS ARROW}"
        text = f"{frames.width}x{frames.height} {arrow} {larger.width}x{larger.height}"
        progress.show_text(text)
        return io.NodeOutput(larger, ui=ui.PreviewText(text))
