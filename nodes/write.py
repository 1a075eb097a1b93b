"""Write stage: the nodes that open a session, pull it to the end, and close it."""

from __future__ import annotations

from comfy_api.latest import InputImpl, io

from .types import Frames, FramesSocket


class SaveStream(io.ComfyNode):
    """A stream to a video file, written while it is made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamSaveStream",
            display_name="Save Stream",
            category="TalkStream/write",
            description="Runs the stream and writes an MP4 with the original sound, playable while it grows. "
            "Stop keeps what is finished as ..._partial.mp4.",
            search_aliases=["save video", "write mp4", "export video"],
            inputs=[
                FramesSocket.Input("frames", tooltip="From Decode Stream."),
                io.String.Input(
                    "filename_prefix",
                    default="video/TalkStream",
                    tooltip="Folder and beginning of the file name under ComfyUI's output folder. "
                    "Takes %year%, %month%, %day%, %width% and so on.",
                ),
                io.Float.Input(
                    "crf",
                    default=18.0,
                    min=0.0,
                    max=51.0,
                    step=1.0,
                    optional=True,
                    advanced=True,
                    tooltip="H.264 quality: lower is better and larger.",
                ),
                io.Int.Input(
                    "save_state_every",
                    default=-1,
                    min=-1,
                    max=10_000,
                    optional=True,
                    advanced=True,
                    tooltip="Chunks between two saves of the stream's state, from which the same graph goes on after a "
                    "crash. -1: every 20 chunks for a minute and longer. 0: never.",
                ),
            ],
            outputs=[
                io.Video.Output(tooltip="The finished file."),
                io.Int.Output(display_name="frame_count", tooltip="Frames in the file."),
                io.Float.Output(display_name="fps", tooltip="Frames per second."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        """Changes when a run was finished early: the same graph, queued again, goes on behind what it made."""
        from .host.finishing import FINISH

        return FINISH.times_cut_short(cls.hidden.unique_id)

    @classmethod
    def execute(
        cls, frames: Frames, filename_prefix: str, crf: float = 18.0, save_state_every: int = -1
    ) -> io.NodeOutput:
        """Pulls chunk, decode, write until the voice ends."""
        from .record import record

        made = record(frames, prefix=filename_prefix, crf=crf, save_every=save_state_every, hidden=cls.hidden)
        video = InputImpl.VideoFromFile(str(made.path))
        return io.NodeOutput(video, made.frames, float(frames.fps), ui=made.shown)


class CollectFrames(io.ComfyNode):
    """A short piece of a stream as ordinary values."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="TalkStreamCollectFrames",
            display_name="Collect Frames",
            category="TalkStream/write",
            description="Runs the stream and hands its frames to ordinary nodes. For short clips: every frame "
            "stays in memory.",
            search_aliases=["frames to images", "stream to image batch"],
            inputs=[
                FramesSocket.Input("frames", tooltip="From Decode Stream."),
                io.Int.Input("start", default=0, min=0, max=10_000_000, tooltip="First frame to collect."),
                io.Int.Input(
                    "limit",
                    default=240,
                    min=1,
                    max=100_000,
                    tooltip="Most frames to collect; the stream stops behind them. One 512x512 frame takes 3 MB.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The frames."),
                io.Audio.Output(tooltip="The original sound of these frames."),
                io.Latent.Output(tooltip="The latents that hold these frames."),
                io.Float.Output(display_name="fps", tooltip="Frames per second."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: object) -> int:
        """Changes when a run was finished early."""
        from .host.finishing import FINISH

        return FINISH.times_cut_short(cls.hidden.unique_id)

    @classmethod
    def execute(cls, frames: Frames, start: int, limit: int) -> io.NodeOutput:
        """Pulls up to the last wanted frame and stops."""
        from .record import collect

        images, audio, latent = collect(frames, start=start, limit=limit, hidden=cls.hidden)
        return io.NodeOutput(images, audio, latent, float(frames.fps))
