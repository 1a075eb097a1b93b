"""A custom node pack for the test server only: values that no small model file can give."""

from __future__ import annotations

import errno
import hashlib
import os
import sys

import comfy.clip_vision
import comfy.patcher_extension
import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io, ui
from comfy_execution.utils import get_executing_context
from server import PromptServer


class TextRows(io.ComfyNode):
    """Random rows in the shape of umT5-XXL's output, whose smallest form takes 11 GB."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            "TestTextRows", inputs=[io.Int.Input("width", default=4096)], outputs=[io.Conditioning.Output()]
        )

    @classmethod
    def execute(cls, width):
        rows = torch.randn(1, 512, width, generator=torch.Generator().manual_seed(5))
        return io.NodeOutput([[rows, {}]])


class VisionTokens(io.ComfyNode):
    """Random tokens in the shape of clip_vision_h's, whose file takes 1.2 GB."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            "TestVisionTokens",
            inputs=[io.Int.Input("width", default=1280)],
            outputs=[io.ClipVisionOutput.Output()],
        )

    @classmethod
    def execute(cls, width):
        seen = comfy.clip_vision.Output()
        seen.penultimate_hidden_states = torch.randn(
            1, 257, width, generator=torch.Generator().manual_seed(6)
        )
        return io.NodeOutput(seen)


class Voice(io.ComfyNode):
    """A voice: noise that swells four times a second."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            "TestVoice",
            inputs=[io.Float.Input("seconds", default=1.0), io.Int.Input("seed", default=0)],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, seconds, seed):
        samples = round(seconds * 16000)
        noise = torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(seed))
        swell = torch.sin(torch.arange(samples) * (4 * 3.14159 / 16000)).abs()
        return io.NodeOutput({"waveform": 0.2 * noise * swell, "sample_rate": 16000})


class NoAudio(io.ComfyNode):
    """What Get Video Components gives for a video without a track."""

    @classmethod
    def define_schema(cls):
        return io.Schema("TestNoAudio", inputs=[], outputs=[io.Audio.Output()])

    @classmethod
    def execute(cls):
        return io.NodeOutput(None)


class BrokenAudio(io.ComfyNode):
    """A second of silence with one sample that is no number."""

    @classmethod
    def define_schema(cls):
        return io.Schema("TestBrokenAudio", inputs=[], outputs=[io.Audio.Output()])

    @classmethod
    def execute(cls):
        waveform = torch.zeros(1, 1, 16000)
        waveform[..., 8000] = float("nan")
        return io.NodeOutput({"waveform": waveform, "sample_rate": 16000})


class Difference(io.ComfyNode):
    """Largest difference between two image batches, as text."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            "TestDifference",
            inputs=[io.Image.Input("a"), io.Image.Input("b")],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, a, b):
        difference = float((a - b).abs().max()) if a.shape == b.shape else -1.0
        return io.NodeOutput(ui=ui.PreviewText(f"{tuple(a.shape)} {difference}"))


CALLS = {"made": 0, "break_at": -1, "finish_at": -1}


def counted(executor, *args, **kwargs):
    """Counts network calls; at one of them it fails, or Finish now is pressed, when a test asks for it."""
    CALLS["made"] += 1
    if CALLS["made"] == CALLS["finish_at"]:
        running = get_executing_context()
        of_pack("nodes.host.finishing").FINISH.request(running.prompt_id, running.node_id)
    if CALLS["made"] == CALLS["break_at"]:
        raise RuntimeError("this call was made to fail")
    return executor(*args, **kwargs)


class CountCalls(io.ComfyNode):
    """A MODEL whose network calls are counted."""

    @classmethod
    def define_schema(cls):
        return io.Schema("TestCountCalls", inputs=[io.Model.Input("model")], outputs=[io.Model.Output()])

    @classmethod
    def execute(cls, model):
        counting = model.clone()
        wrapper_type = comfy.patcher_extension.WrappersMP.APPLY_MODEL
        counting.add_wrapper_with_key(wrapper_type, "test_count", counted)
        return io.NodeOutput(counting)


class Digest(io.ComfyNode):
    """The exact content of an image batch, as text."""

    @classmethod
    def define_schema(cls):
        return io.Schema("TestDigest", inputs=[io.Image.Input("image")], outputs=[], is_output_node=True)

    @classmethod
    def execute(cls, image):
        content = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
        return io.NodeOutput(ui=ui.PreviewText(f"{tuple(image.shape)} {content}"))


def of_pack(name):
    """A module of the pack under test, in this process."""
    return next(sys.modules[full] for full in sys.modules if full.endswith(f"ComfyUI-TalkStream.{name}"))


@PromptServer.instance.routes.post("/test/calls")
async def calls(request):
    """Network calls counted since the last time; {"break_at": n}: the n-th from now fails; finish_at: Finish now."""
    made, wanted = CALLS["made"], await request.json()
    CALLS.update(made=0, break_at=wanted.get("break_at", -1), finish_at=wanted.get("finish_at", -1))
    return web.json_response({"made": made})


@PromptServer.instance.routes.post("/test/full_disk")
async def full_disk(request):
    """From this frame on the disk of every video is full; no number: it has room again."""
    writer, frame = of_pack("media.muxer").VideoWriter, (await request.json()).get("frame")
    original = getattr(writer, "_whole_write_frame", writer._write_frame)
    writer._whole_write_frame = original

    def write_frame(self, picture):
        if self.frames_written >= frame:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(self, picture)

    writer._write_frame = original if frame is None else write_frame
    return web.json_response({})


class StandIns(ComfyExtension):
    async def get_node_list(self):
        return [TextRows, VisionTokens, Voice, NoAudio, BrokenAudio, Difference, CountCalls, Digest]


async def comfy_entrypoint():
    return StandIns()
