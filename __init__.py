"""ComfyUI-TalkStream: talking video from a portrait or a clip and a voice, streamed chunk by chunk.

ComfyUI imports this file at start-up, so it does nothing but name the web folder and the entry point.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import TalkStreamExtension

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> TalkStreamExtension:
    """The pack's node list for ComfyUI's loader; nodes are imported here, never at import time."""
    try:
        from .nodes import TalkStreamExtension

        return TalkStreamExtension()
    except Exception:
        # The host reports a failing entry point in one line without a traceback.
        logging.getLogger(__name__).exception("TalkStream could not load its nodes")
        raise
