"""Stream stage: everything that decides the latents, checked and put together; nothing runs yet."""

from __future__ import annotations

from comfy_api.latest import io

from .load import SEARCH_ALIASES
from .types import (
    CacheChoice,
    CacheSocket,
    GuidanceChoice,
    GuidanceSocket,
    Reference,
    ReferenceSocket,
    SourceSocket,
    SourceVideo,
    Speech,
    SpeechSocket,
    StreamSocket,
)

MAX_SEED = 0xFFFFFFFFFFFFFFFF


class StreamChunks(io.ComfyNode):
    """A stream of latents, described."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamStreamChunks",
            display_name="Stream Chunks",
            category="TalkStream/stream",
            description="Makes a student speak, chunk after chunk, in constant memory. "
            "Runs when the node at the end of the graph pulls.",
            search_aliases=[*SEARCH_ALIASES, "sampler", "streaming"],
            inputs=[
                io.Model.Input("model", tooltip="The student, from Load Student, with LoRA or not."),
                SpeechSocket.Input("speech", tooltip="From Encode Speech."),
                ReferenceSocket.Input("reference", tooltip="From Encode Reference."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Noise of the stream. The same seed makes the same video.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="A sentence that describes the scene, from CLIP Text Encode with umT5-XXL. Needed by "
                    "every student but TalkStream Mini, unless its file brings the sentence.",
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="Noise levels, from Step Schedule or any SIGMAS. Open: as trained.",
                ),
                CacheSocket.Input("cache", optional=True, tooltip="From KV Cache. Open: as trained."),
                SourceSocket.Input(
                    "source",
                    optional=True,
                    tooltip="From Encode Source Video, for lip-sync students: the video whose mouth is made anew. "
                    "Their reference comes from that node too.",
                ),
                GuidanceSocket.Input(
                    "guidance",
                    optional=True,
                    tooltip="From Guidance, for InfiniteTalk. Open: as trained.",
                ),
            ],
            outputs=[StreamSocket.Output(display_name="stream", tooltip="For Decode Stream.")],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        speech: Speech,
        reference: Reference,
        seed: int,
        conditioning: io.Conditioning.Type | None = None,
        sigmas: io.Sigmas.Type | None = None,
        cache: CacheChoice | None = None,
        source: SourceVideo | None = None,
        guidance: GuidanceChoice | None = None,
    ) -> io.NodeOutput:
        """Checks that the parts fit together."""
        from .plan import plan_stream

        return io.NodeOutput(
            plan_stream(
                model,
                speech,
                reference,
                conditioning=conditioning,
                sigmas=sigmas,
                cache=cache,
                guidance=guidance,
                seed=seed,
                source=source,
            )
        )


class ChunkSampler(io.ComfyNode):
    """A short clip through core's SamplerCustomAdvanced."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamChunkSampler",
            display_name="Chunk Sampler",
            category="TalkStream/stream",
            description="A sampler for core's SamplerCustomAdvanced that makes a whole short clip at once, chunk after "
            "chunk, with core's noise and guider. The MODEL goes to Basic Guider. Long clips belong to Stream Chunks.",
            search_aliases=[*SEARCH_ALIASES, "SamplerCustomAdvanced", "custom sampler"],
            inputs=[
                SpeechSocket.Input(
                    "speech", tooltip="From Encode Speech, for the same MODEL as the guider's."
                ),
                ReferenceSocket.Input("reference", tooltip="From Encode Reference."),
                CacheSocket.Input("cache", optional=True, tooltip="From KV Cache. Open: as trained."),
            ],
            outputs=[
                io.Sampler.Output(tooltip="For SamplerCustomAdvanced."),
                io.Latent.Output(
                    tooltip="Empty and as long as the voice: latent_image of SamplerCustomAdvanced."
                ),
            ],
        )

    @classmethod
    def execute(cls, speech: Speech, reference: Reference, cache: CacheChoice | None = None) -> io.NodeOutput:
        """Packs the clip; the guider's MODEL is checked when it is sampled."""
        from .clip import plan_clip

        return io.NodeOutput(*plan_clip(speech, reference, cache))
