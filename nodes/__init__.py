"""The pack as ComfyUI sees it: an explicit list of nodes and the model folders they read.

Nodes import engine modules inside `execute`, so that ComfyUI's start pays for schemas only.
"""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override


class TalkStreamExtension(ComfyExtension):
    """Entry point of the pack."""

    @override
    async def on_load(self) -> None:
        """Lists the shipped student and its VAE beside the user's own files, and adds the routes."""
        from .host.paths import register_model_folders
        from .host.routes import register_routes

        register_model_folders()
        register_routes()

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of the pack, in the order of the data flow."""
        from . import (
            decode,
            encode,
            guidance,
            load,
            schedule,
            source,
            speakers,
            stream,
            teacher,
            text,
            track,
            upscale,
            write,
        )

        return [
            load.LoadStudent,
            load.UseModelAsStudent,
            load.ModelDoctor,
            load.LoadVAERefiner,
            load.Examples,
            load.ExampleVideo,
            text.SaveConditioning,
            text.LoadConditioning,
            encode.EncodeSpeech,
            speakers.EncodeSpeakers,
            speakers.SpeakerMasks,
            encode.EncodeReference,
            track.TrackFace,
            source.EncodeSourceVideo,
            schedule.StepSchedule,
            schedule.KVCache,
            guidance.Guidance,
            stream.StreamChunks,
            stream.ChunkSampler,
            teacher.TeacherClip,
            decode.DecodeStream,
            upscale.UpscaleStream,
            source.PasteFace,
            write.SaveStream,
            write.CollectFrames,
        ]
