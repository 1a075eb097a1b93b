"""Bars, previews, text on nodes, Stop, and the messages that the front end listens to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from server import PromptServer

if TYPE_CHECKING:
    from execution import PromptQueue

logger = logging.getLogger(__name__)

PREVIEWS_PER_SECOND = 8
TEXTS_PER_SECOND = 4
HISTORY_SECONDS = 60.0
"""Longest wait for the host to end a prompt that has failed."""
HISTORY_POLL_SECONDS = 0.02


def stop_if_asked() -> None:
    """Raises the host's interrupt (a BaseException) when the user pressed Stop."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host counts this as running out of memory; such errors must keep their type."""
    return comfy.model_management.is_oom(error)


def executing_node() -> str:
    """Id of the node that runs now, as it stands in the prompt; "" outside a run."""
    context = get_executing_context()
    return "" if context is None else str(context.node_id)


def executing_prompt() -> str:
    """Id of the prompt that runs now; "" outside a run."""
    context = get_executing_context()
    return "" if context is None else str(context.prompt_id)


def show_text(text: str, node_id: str | None = None) -> None:
    """Writes one line on a node (the running one by default) in the user's browser."""
    server = getattr(PromptServer, "instance", None)
    node_id = executing_node() if node_id is None else node_id
    if server is not None and node_id:
        server.send_progress_text(text, node_id, server.client_id)


def upstream_node(prompt: Mapping[str, Any] | None, node_id: str, class_type: str) -> str | None:
    """Nearest node of a class above `node_id`, found by walking the prompt's links; None if there is none."""
    queue, seen = deque([node_id]), {node_id}
    while prompt and queue:
        node = prompt.get(queue.popleft()) or {}
        for value in node.get("inputs", {}).values():
            source = str(value[0]) if isinstance(value, list) and len(value) == 2 else None
            if source is None or source in seen or source not in prompt:
                continue
            if prompt[source].get("class_type") == class_type:
                return source
            seen.add(source)
            queue.append(source)
    return None


def linked_node(prompt: Mapping[str, Any] | None, node_id: str, name: str, class_type: str) -> str | None:
    """Node of a class that an input of `node_id` comes from, or the nearest above that one; None if there is none."""
    value = ((prompt or {}).get(node_id) or {}).get("inputs", {}).get(name)
    source = str(value[0]) if isinstance(value, list) and len(value) == 2 else None
    if source is None or source not in prompt:
        return None
    if prompt[source].get("class_type") == class_type:
        return source
    return upstream_node(prompt, source, class_type)


class Bar:
    """Progress bar on one node; a missing node (None) makes every call do nothing but check for Stop."""

    def __init__(self, node_id: str | None, total: int) -> None:
        self.node_id = node_id
        self.total = max(1, total)
        self.bar = None if node_id is None else comfy.utils.ProgressBar(self.total, node_id=node_id)
        self._last_preview = float("-inf")
        self._last_text = float("-inf")

    def update(self, value: int) -> None:
        """Moves the bar; raises the host's interrupt after Stop."""
        stop_if_asked()
        if self.bar is not None:
            self.bar.update_absolute(value, self.total)

    def wants_preview(self) -> bool:
        """Whether the next preview is due; pictures need not be made before."""
        return self.bar is not None and time.monotonic() - self._last_preview >= 1 / PREVIEWS_PER_SECOND

    def preview(self, value: int, image: object) -> None:
        """Moves the bar and shows a picture (PIL) on the node."""
        self._last_preview = time.monotonic()
        if self.bar is not None:
            self.bar.update_absolute(value, self.total, ("JPEG", image, None))

    def text(self, text: str) -> None:
        """Writes a line on the node, at most a few times a second."""
        now = time.monotonic()
        if self.node_id is not None and now - self._last_text >= 1 / TEXTS_PER_SECOND:
            self._last_text = now
            show_text(text, self.node_id)

    def finish(self) -> None:
        """Marks the node as done, whatever the bar shows."""
        if self.node_id is not None:
            get_progress_state().finish_progress(self.node_id)


def send_executed(ui: Mapping[str, Any]) -> None:
    """Shows a result on the running node although it is about to fail: the host then sends none itself.

    It is in the prompt's history too, as soon as the host has written that.
    """
    server = getattr(PromptServer, "instance", None)
    context = get_executing_context()
    if server is None or context is None:
        return
    node_id, prompt_id = context.node_id, context.prompt_id
    message = {"node": node_id, "display_node": node_id, "output": dict(ui), "prompt_id": prompt_id}
    server.send_sync("executed", message, server.client_id)
    asyncio.run_coroutine_threadsafe(
        note_in_history(server.prompt_queue, prompt_id, node_id, ui), server.loop
    )


async def note_in_history(queue: PromptQueue, prompt_id: str, node_id: str, ui: Mapping[str, Any]) -> None:
    """Adds a node's result to a prompt's history, which the host writes without those of nodes that fail."""
    for _ in range(round(HISTORY_SECONDS / HISTORY_POLL_SECONDS)):
        with queue.mutex:
            entry = queue.history.get(prompt_id)
            if entry is not None:
                entry["outputs"].setdefault(node_id, dict(ui))
                return
        await asyncio.sleep(HISTORY_POLL_SECONDS)
