"""A ComfyUI with this pack, for benchmarks that talk to it over HTTP: prompts in; outcome, seconds and memory out."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..devtools.environment import Setup
from ..devtools.host import read_host
from ..devtools.server import Server, serve

Graph = dict[str, dict[str, Any]]
POLL_SECONDS, SAMPLE_SECONDS = 0.05, 0.02
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """How a prompt ended. error, node: sentence and "class #id" of the node that failed, else empty."""

    seconds: float
    outputs: dict[str, Any]
    error: str = ""
    node: str = ""


@contextlib.contextmanager
def running_host(*, pack: str = "") -> Iterator[Server]:
    """A host in a folder of its own that is removed at the end. pack: source of one more custom node pack."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        sys.exit("set COMFYUI_PATH to a ComfyUI, or start this with `python dev.py run -m ...`")
    setup = Setup(Path(sys.executable), read_host(Path(path).resolve(), installed=False))
    with tempfile.TemporaryDirectory(prefix="talkstream-host-") as folder:
        base = Path(folder)
        if pack:
            more = base / "custom_nodes" / "benchmark_nodes"
            more.mkdir(parents=True)
            (more / "__init__.py").write_text(pack, "utf-8")
        with serve(setup, base) as server:
            yield server


def node(class_type: str, **inputs: object) -> dict[str, Any]:
    """One node of a graph in the form that the API takes; a link is [node id, output]."""
    return {"class_type": class_type, "inputs": inputs}


def queue(server: Server, graph: Graph) -> str:
    """Queues a graph and returns its prompt id. Raises HTTPError where no output of it can run at all."""
    answer = server.json("/prompt", {"prompt": graph, "client_id": uuid.uuid4().hex})
    if answer["node_errors"]:
        raise ValueError(f"the host drops a part of this graph: {answer['node_errors']}")
    return answer["prompt_id"]


def outcome(server: Server, prompt_id: str) -> Outcome:
    """Waits for a prompt; its seconds are the host's own, from start to end."""
    while True:
        entry = server.json(f"/history/{prompt_id}").get(prompt_id)
        if entry and (entry["status"]["completed"] or entry["status"]["status_str"] == "error"):
            break
        time.sleep(POLL_SECONDS)
    messages = dict(entry["status"]["messages"])
    ended = max(content["timestamp"] for content in messages.values())
    seconds = (ended - messages["execution_start"]["timestamp"]) / 1000
    failed = messages.get("execution_error")
    if failed is None:
        return Outcome(seconds, entry["outputs"])
    where = f"{failed['node_type']} #{failed['node_id']}"
    return Outcome(seconds, entry["outputs"], failed["exception_message"].strip(), where)


def anonymous_bytes(server: Server) -> int:
    """Anonymous memory in RAM of the host's processes (Linux)."""
    return sum(_anonymous(pid) for pid in _family(server.process.pid))


class PeakMemory:
    """Reads the host's anonymous memory in a thread while its block runs; use as a context manager."""

    def __init__(self, server: Server, *, every_seconds: float = SAMPLE_SECONDS) -> None:
        self.peak = anonymous_bytes(server)
        self._server, self._every, self._ended = server, every_seconds, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every):
            self.peak = max(self.peak, anonymous_bytes(self._server))


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _family(int(child))


def _anonymous(pid: int) -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    return 0
