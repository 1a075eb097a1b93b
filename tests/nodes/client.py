"""A batch client for the test server: graphs in, outputs or the error's sentence out."""

from __future__ import annotations

import copy
import time
import uuid
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from talkstream.devtools.server import Server

Graph = dict[str, dict]
WAIT_SECONDS = 600


@dataclass
class Result:
    """How a prompt ended. outputs: node id -> ui results; error: of the node that failed, else empty."""

    outputs: dict[str, dict]
    error: str = ""
    messages: list = field(default_factory=list)

    def video(self, node: str, server: Server) -> Path:
        found = self.outputs[node]["images"][0]
        return server.base / "output" / found["subfolder"] / found["filename"]


def queue(server: Server, graph: Graph, *, client_id: str | None = None, workflow: dict | None = None) -> str:
    body = {"prompt": graph, "client_id": client_id or uuid.uuid4().hex}
    if workflow is not None:
        body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
    answer = server.json("/prompt", body)
    assert answer["node_errors"] == {}
    return answer["prompt_id"]


def wait(server: Server, prompt_id: str) -> Result:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        entry = server.json(f"/history/{prompt_id}").get(prompt_id)
        if entry and (entry["status"]["completed"] or entry["status"]["status_str"] == "error"):
            messages = entry["status"]["messages"]
            errors = [content["exception_message"] for kind, content in messages if kind == "execution_error"]
            return Result(entry["outputs"], "".join(errors).strip(), messages)
        time.sleep(0.05)
    raise TimeoutError(f"{prompt_id} is still running")


def run(server: Server, graph: Graph, **options) -> Result:
    return wait(server, queue(server, graph, **options))


def kept_in_history(server: Server, result: Result, node: str = "8") -> tuple[str, str]:
    """Folder and name of the video that a failed prompt's history shows on a node, a moment after its end."""
    deadline = time.monotonic() + WAIT_SECONDS
    prompt_id = next(content["prompt_id"] for _, content in result.messages)
    while time.monotonic() < deadline:
        outputs = server.json(f"/history/{prompt_id}")[prompt_id]["outputs"]
        if node in outputs:
            return outputs[node]["images"][0]["subfolder"], outputs[node]["images"][0]["filename"]
        time.sleep(0.05)
    raise TimeoutError(f"{prompt_id} shows nothing on node {node}")


def changed(graph: Graph, **inputs: dict) -> Graph:
    """A copy with other inputs; a key is a node id behind an n, its value the inputs to set."""
    result = copy.deepcopy(graph)
    for key, values in inputs.items():
        result[key[1:]]["inputs"].update(values)
    return result


@dataclass(frozen=True)
class Probe:
    """What a player finds in a file."""

    frames: int
    fps: Fraction
    size: tuple[int, int]
    sample_rate: int
    channels: int
    samples: int
    metadata: dict[str, str]


def probe(path: Path) -> Probe:
    with av.open(str(path)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        fps, size, metadata = Fraction(video.average_rate), (video.width, video.height), dict(file.metadata)
        sample_rate, channels = audio.rate, audio.channels
        samples = sum(frame.samples for frame in file.decode(audio))
    with av.open(str(path)) as file:
        frames = sum(1 for _ in file.decode(file.streams.video[0]))
    return Probe(frames, fps, size, sample_rate, channels, samples, metadata)
