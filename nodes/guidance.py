"""Stream stage, guidance: how strongly text and audio pull, for students that were not distilled to do without."""

from __future__ import annotations

from comfy_api.latest import io

from .types import GuidanceChoice, GuidanceSocket

AS_TRAINED = -1.0


class Guidance(io.ComfyNode):
    """Guidance of InfiniteTalk: by text, by audio."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts; every widget starts at "as trained"."""
        return io.Schema(
            node_id="TalkStreamGuidance",
            display_name="Guidance",
            category="TalkStream/schedule",
            description="How strongly text and audio pull in InfiniteTalk. Each strength that is not 1 costs one more "
            "network call per step; with a distilling LoRA, set text to 1.",
            search_aliases=["cfg", "audio cfg", "apg", "infinitetalk", "negative prompt"],
            inputs=[
                io.Float.Input(
                    "text",
                    default=AS_TRAINED,
                    min=-1.0,
                    max=30.0,
                    step=0.1,
                    tooltip="Strength of the text against the negative one. -1: as trained (InfiniteTalk: 5). 1: none.",
                ),
                io.Float.Input(
                    "audio",
                    default=AS_TRAINED,
                    min=-1.0,
                    max=30.0,
                    step=0.1,
                    tooltip="Strength of the voice against silence; 3 to 5 for tight lips. -1: as trained "
                    "(InfiniteTalk: 4). 1: none.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What to keep away from, from CLIP Text Encode. Needed unless text is 1.",
                ),
                io.Boolean.Input(
                    "adaptive",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Adaptive projected guidance: less saturated colours at high strengths.",
                ),
            ],
            outputs=[GuidanceSocket.Output(display_name="guidance", tooltip="For Stream Chunks.")],
        )

    @classmethod
    def execute(
        cls,
        text: float,
        audio: float,
        negative: io.Conditioning.Type | None = None,
        adaptive: bool = False,
    ) -> io.NodeOutput:
        """Packs the choice; Stream Chunks checks it against the student."""
        strengths = (None if strength < 0 else strength for strength in (text, audio))
        return io.NodeOutput(GuidanceChoice(*strengths, negative=negative, adaptive=adaptive))
