"""Videos that are being written now: what the page's player asks for, by prompt and node, never by path."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comfy_execution.utils import get_executing_context
from server import PromptServer

STARTED_EVENT = "talkstream.growing"
REMEMBERED = 64
"""Ended growing files whose readers still get a quiet "nothing more" instead of "unknown"."""


@dataclass(frozen=True)
class GrowingFile:
    """A file that grows. workflow_id: of the graph in the user's browser, "" for a prompt without one.

    client_id: of the page that queued the prompt; it alone is told when the prompt ends.
    """

    prompt_id: str
    node_id: str
    workflow_id: str
    client_id: str
    path: Path
    running: bool = True

    def public(self) -> dict[str, str]:
        """What a page may know: neither the path nor who else is there."""
        return {"prompt_id": self.prompt_id, "node_id": self.node_id, "workflow_id": self.workflow_id}


class GrowingFiles:
    """The growing files of this process. Nodes add them on the prompt thread, routes read on the server's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], GrowingFile] = OrderedDict()

    def add(self, file: GrowingFile) -> None:
        """Makes a file known; the oldest ended ones are forgotten."""
        with self._lock:
            self._known[file.prompt_id, file.node_id] = file
            ended = [key for key, known in self._known.items() if not known.running]
            for key in ended[: max(0, len(ended) - REMEMBERED)]:
                del self._known[key]

    def end(self, file: GrowingFile) -> None:
        """From here on there is nothing more to read."""
        self.add(replace(file, running=False))

    def find(self, prompt_id: str, node_id: str) -> GrowingFile | None:
        """The file of one node in one prompt, running or just ended."""
        with self._lock:
            return self._known.get((prompt_id, node_id))

    def running(self) -> list[GrowingFile]:
        """Those that still grow."""
        with self._lock:
            return [file for file in self._known.values() if file.running]


GROWING = GrowingFiles()


@contextmanager
def announced(path: Path, extra_pnginfo: Mapping[str, Any] | None) -> Iterator[None]:
    """Lets the page play `path`, written by the running node, until the block ends."""
    context = get_executing_context()
    if context is None:
        yield
        return
    workflow = (extra_pnginfo or {}).get("workflow") or {}
    workflow_id = str(workflow.get("id") or "") if isinstance(workflow, Mapping) else ""
    server = getattr(PromptServer, "instance", None)
    client_id = getattr(server, "client_id", None) or ""
    file = GrowingFile(str(context.prompt_id), str(context.node_id), workflow_id, client_id, path)
    GROWING.add(file)
    if client_id:
        server.send_sync(STARTED_EVENT, file.public(), client_id)
    try:
        yield
    finally:
        GROWING.end(file)
