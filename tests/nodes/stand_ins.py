"""A custom node pack for the test server only: values that no small model file can give."""

from __future__ import annotations

import sys

import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io, ui
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


@PromptServer.instance.routes.post("/test/finish")
async def finish(request):
    """What a Finish button does, by the node's and the prompt's id."""
    pack = next(name for name in sys.modules if name.endswith("ComfyUI-TalkStream.nodes.host.finishing"))
    wanted = await request.json()
    found = sys.modules[pack].FINISH.request(wanted["prompt_id"], wanted["node_id"])
    return web.json_response({"found": found})


class StandIns(ComfyExtension):
    async def get_node_list(self):
        return [TextRows, NoAudio, BrokenAudio, Difference]


async def comfy_entrypoint():
    return StandIns()
