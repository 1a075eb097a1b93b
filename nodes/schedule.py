"""Schedule stage: noise levels and the KV cache, both optional, both "as trained" by default."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .types import CacheChoice, CacheSocket

AS_TRAINED = "as trained"
TWO_STEPS = "two-step sync window"
FOUR_STEPS = "4 NFE"
CUSTOM = "custom list"
MAIN_MEMORY = "main memory"
EIGHT_BIT = "8 bit"
SINK_RULES = ["absolute", "before_window", "ahead"]


class StepSchedule(io.ComfyNode):
    """Noise levels of one chunk as SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamStepSchedule",
            display_name="Step Schedule",
            category="TalkStream/schedule",
            description="Noise levels for Stream Chunks, with a picture of the steps against the sync window.",
            search_aliases=["sigmas", "steps", "scheduler", "sync window"],
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=[AS_TRAINED, TWO_STEPS, FOUR_STEPS, CUSTOM],
                    default=AS_TRAINED,
                    tooltip="as trained: the student's own levels (connect its MODEL). two-step sync window: "
                    ".999, .769 as Lip Forcing. 4 NFE: four levels with the shift below. custom list: yours.",
                ),
                io.Float.Input(
                    "shift",
                    default=5.0,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    tooltip="Time shift of 4 NFE and of a custom list; 1 leaves the levels as they are. "
                    "Not used by the other presets.",
                ),
                io.String.Input(
                    "custom",
                    default="1, 0.75, 0.5, 0.25",
                    optional=True,
                    tooltip="Falling noise levels between 1 and 0, separated by commas, before the shift. "
                    "The final 0 may be left out.",
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="The student whose own levels are meant by 'as trained'."
                ),
            ],
            outputs=[io.Sigmas.Output(tooltip="Falling noise levels, ending in 0.")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, preset: str, shift: float, custom: str = "", model: io.Model.Type | None = None
    ) -> io.NodeOutput:
        """Builds the list and draws it."""
        import torch

        from .host.pictures import draw_steps
        from .levels import sigmas_of

        sigmas = sigmas_of(preset, shift=shift, custom=custom, model=model)
        picture = ui.PreviewImage(draw_steps(sigmas), cls=cls)
        return io.NodeOutput(torch.tensor(sigmas, dtype=torch.float32), ui=picture)


class KVCache(io.ComfyNode):
    """What the student remembers of the past."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts; every widget starts at "as trained"."""
        return io.Schema(
            node_id="TalkStreamKVCache",
            display_name="KV Cache",
            category="TalkStream/schedule",
            description="Changes what the student remembers. Placed as it is, it changes nothing.",
            search_aliases=["context window", "attention sink", "memory"],
            inputs=[
                io.Int.Input(
                    "window",
                    default=-1,
                    min=-1,
                    max=1024,
                    tooltip="Latent frames in view: sink, history and current chunk. -1: as trained. "
                    "A longer window costs memory and time.",
                ),
                io.Int.Input(
                    "sink",
                    default=-1,
                    min=-1,
                    max=1024,
                    tooltip="First latent frames that stay in view for ever and hold the identity. -1: as trained.",
                ),
                io.Combo.Input(
                    "sink_rule",
                    options=[AS_TRAINED, *SINK_RULES],
                    default=AS_TRAINED,
                    tooltip="Where the sink stands in time: at its own place (absolute), just before the window, "
                    "or a fixed way ahead of the current chunk.",
                ),
                io.Int.Input(
                    "sink_offset",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    advanced=True,
                    tooltip="Latent frames ahead of the current chunk; only read by the rule 'ahead'.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=[AS_TRAINED, "bf16", "fp16", "fp32", EIGHT_BIT],
                    default=AS_TRAINED,
                    tooltip="Number format of the cache. as trained: the student's own. 8 bit: half of bf16, with a "
                    "scale for each token and head; the pictures change a little.",
                ),
                io.Combo.Input(
                    "placement",
                    options=[AS_TRAINED, MAIN_MEMORY],
                    default=AS_TRAINED,
                    tooltip="Where the past lives. as trained: on the student's device. main memory: for cards that "
                    "are too small; each layer's part comes over while the layer before it computes. Same pictures.",
                ),
            ],
            outputs=[CacheSocket.Output(display_name="cache", tooltip="For Stream Chunks.")],
        )

    @classmethod
    def execute(
        cls, window: int, sink: int, sink_rule: str, dtype: str, placement: str, sink_offset: int = 0
    ) -> io.NodeOutput:
        """Packs the changes; Stream Chunks checks them against the student."""
        choice = CacheChoice(
            window=None if window < 0 else window,
            sink=None if sink < 0 else sink,
            sink_rule=None if sink_rule == AS_TRAINED else sink_rule,
            sink_offset=sink_offset if sink_rule == "ahead" else None,
            dtype=None if dtype in (AS_TRAINED, EIGHT_BIT) else dtype,
            in_main_memory=placement == MAIN_MEMORY,
            eight_bit=dtype == EIGHT_BIT,
        )
        return io.NodeOutput(choice)
