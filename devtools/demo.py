"""The quickstart and the lip-sync workflow through ComfyUI's HTTP API, as any batch client would run them."""

from __future__ import annotations

import json
import mimetypes
import re
import shutil
import time
import urllib.error
import uuid
from collections.abc import Iterator
from pathlib import Path

from .host import ROOT
from .server import Server, tail
from .terminal import DevError, say

API_WORKFLOWS = ROOT / "workflows" / "api"
QUICKSTART = API_WORKFLOWS / "talkstream_quickstart.json"
LIPSYNC = API_WORKFLOWS / "talkstream_lipsync.json"
EXAMPLES_CLASS = "TalkStreamExamples"
IMAGE_SLOT, AUDIO_SLOT = 0, 1
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
QUIET_SECONDS = 5.0
Graph = dict[str, dict]


def run_demo(server: Server, api: Path, *, image: Path | None, audio: Path | None, out: Path) -> Path:
    """Queue a shipped workflow with the user's files in place of the examples; copies the MP4 to `out`."""
    graph: Graph = json.loads(api.read_text("utf-8"))
    if image:
        graph = replace_example(graph, IMAGE_SLOT, "LoadImage", {"image": upload(server, image)})
    if audio:
        graph = replace_example(graph, AUDIO_SLOT, "LoadAudio", {"audio": upload(server, audio)})
    started = time.monotonic()
    workflow = None if image or audio else json.loads((ROOT / "workflows" / api.name).read_text("utf-8"))
    outputs = wait_for_outputs(server, queue(server, graph, workflow))
    made = written_video(server, outputs)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, out)
    say(f"Made in {time.monotonic() - started:.1f} s, {out.stat().st_size / 1e6:.1f} MB")
    return out


def replace_example(graph: Graph, slot: int, class_type: str, inputs: dict[str, str]) -> Graph:
    """A copy of an API graph in which one output of the examples node comes from a core loader instead."""
    examples = next((key for key, node in graph.items() if node["class_type"] == EXAMPLES_CLASS), None)
    if examples is None:
        raise DevError(f"this workflow has no {EXAMPLES_CLASS} node whose picture or voice could be replaced")
    loader = f"{class_type}_{slot}"
    changed: Graph = {loader: {"class_type": class_type, "inputs": inputs}}
    for key, node in graph.items():
        relinked = {k: [loader, 0] if v == [examples, slot] else v for k, v in node["inputs"].items()}
        changed[key] = {**node, "inputs": relinked}
    links = [
        value for node in changed.values() for value in node["inputs"].values() if isinstance(value, list)
    ]
    if all(link[0] != examples for link in links):
        del changed[examples]
    return changed


def upload(server: Server, path: Path) -> str:
    """Send a picture or a sound to ComfyUI's input folder; returns the name its loaders know it by."""
    if not path.is_file():
        raise DevError(f"{path} does not exist: give the path of an image or audio file")
    boundary = uuid.uuid4().hex
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n'
    body = b"".join([head.encode(), f"Content-Type: {kind}\r\n\r\n".encode(), path.read_bytes()])
    body += f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue'.encode()
    body += f"\r\n--{boundary}--\r\n".encode()
    answer = server.request("/upload/image", body, content_type=f"multipart/form-data; boundary={boundary}")
    return json.loads(answer)["name"]


def queue(server: Server, graph: Graph, workflow: dict | None = None) -> str:
    """POST an API graph; returns the prompt's id. Raises DevError with ComfyUI's reasons where it refuses.

    workflow: the same graph as the canvas saves it, for the video's metadata: dropped there, it opens again.
    """
    extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
    body = {"prompt": graph, "client_id": uuid.uuid4().hex, "extra_data": extra}
    try:
        return server.json("/prompt", body)["prompt_id"]
    except urllib.error.HTTPError as error:
        answer = error.read().decode(errors="replace")
        raise DevError(f"ComfyUI refused the workflow ({error.code}): {answer}") from error


def wait_for_outputs(server: Server, prompt_id: str) -> dict[str, dict]:
    """Poll the history until the prompt is done, showing what happens meanwhile; returns its outputs."""
    log, started = follow(server.log), time.monotonic()
    told = started
    while True:
        lines = next(log)
        if not lines and time.monotonic() - told > QUIET_SECONDS:
            lines = [f"{time.monotonic() - started:.0f} s, {written_bytes(server) / 1e6:.2f} MB of video"]
        for line in lines:
            say(f"  {line}")
            told = time.monotonic()
        if server.process.poll() is not None:
            raise DevError(f"ComfyUI ended while it ran the workflow; its last lines:\n{tail(server.log)}")
        entry = server.json(f"/history/{prompt_id}").get(prompt_id)
        if entry and entry["status"]["completed"]:
            return entry["outputs"]
        if entry and entry["status"]["status_str"] == "error":
            raise DevError(f"The workflow failed: {failure(entry)}")
        time.sleep(0.3)


def written_bytes(server: Server) -> int:
    """What is on the disk of the videos that this server makes, the growing one included."""
    return sum(path.stat().st_size for path in (server.base / "output").rglob("*.mp4"))


def follow(log: Path) -> Iterator[list[str]]:
    """Each step gives the whole lines that a growing log has gained since the last one."""
    with log.open("rb") as handle:
        handle.seek(0, 2)
        rest = b""
        while True:
            *lines, rest = (rest + handle.read()).replace(b"\r", b"\n").split(b"\n")
            yield [COLOURS.sub("", line.decode(errors="replace")) for line in lines if line.strip()]


def failure(entry: dict) -> str:
    """The sentence of a failed history entry: node and exception text."""
    for kind, content in entry["status"]["messages"]:
        if kind == "execution_error":
            return f"{content['node_type']} #{content['node_id']}: {content['exception_message'].strip()}"
    return "it was interrupted"


def written_video(server: Server, outputs: dict[str, dict]) -> Path:
    """Path of the MP4 among a prompt's outputs."""
    for output in outputs.values():
        for value in output.values():
            for item in value if isinstance(value, list) else []:
                if isinstance(item, dict) and str(item.get("filename", "")).endswith(".mp4"):
                    return server.base / "output" / item.get("subfolder", "") / item["filename"]
    raise DevError(f"The workflow ended without an MP4 among its outputs: {sorted(outputs)}")
