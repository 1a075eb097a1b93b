"""Behind Upscale Stream: larger pictures, described, and made chunk by chunk while the stream runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_api.latest import io

from .host import progress
from .host.upscale import HostUpscaler, check_upscaler
from .stages import UPSCALE, stage
from .types import DecodedChunk, Frames

UPSCALE_CLASS = "TalkStreamUpscaleStream"


def plan_upscale(frames: Frames, model: io.UpscaleModel.Type) -> Frames:
    """The same stream, larger. Raises ValueError for a model that is not for colour pictures."""
    scale = check_upscaler(model)
    return dataclasses.replace(
        frames,
        upscalers=(*frames.upscalers, model),
        width=scale * frames.width,
        height=scale * frames.height,
    )


class Enlarger:
    """One Upscale Stream node of a running stream: its model and its bar."""

    def __init__(self, model: io.UpscaleModel.Type, *, node_id: str | None, frames: int) -> None:
        """frames: of the whole stream."""
        self._upscaler = HostUpscaler(model)
        self.bar = progress.Bar(node_id, frames)

    def all(self, chunks: Iterator[DecodedChunk]) -> Iterator[DecodedChunk]:
        """Every chunk with larger pictures."""
        return map(self.enlarge, chunks)

    def enlarge(self, chunk: DecodedChunk) -> DecodedChunk:
        """The chunk with larger pictures; Stop ends it between two of them."""
        with stage(UPSCALE, self.bar.node_id, chunk=chunk.index):
            larger = self._upscaler.enlarge(
                chunk.pictures_FHWC, done=lambda pictures: self.bar.update(chunk.first_frame + pictures)
            )
        return dataclasses.replace(chunk, pictures_FHWC=larger)


def enlargers_of(frames: Frames, *, node_id: str, prompt: Mapping[str, Any] | None) -> list[Enlarger]:
    """In the order in which they are applied: the nearest node to the end of the graph comes last."""
    nodes: list[str | None] = []
    above: str | None = node_id
    for _ in frames.upscalers:
        above = None if above is None else progress.upstream_node(prompt, above, UPSCALE_CLASS)
        nodes.insert(0, above)
    return [
        Enlarger(model, node_id=found, frames=frames.frames)
        for model, found in zip(frames.upscalers, nodes, strict=True)
    ]
