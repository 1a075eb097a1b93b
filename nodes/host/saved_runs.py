"""The folder of saved runs: private to the pack, in ComfyUI's user folder, which no request can read."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths

from ...streaming.motion import MotionSpec
from ...streaming.saved_run import RunStore, SavedRun
from ...streaming.spec import StreamSpec
from . import settings
from .takes import chunk_shape

logger = logging.getLogger(__name__)

KEEP_SECONDS = 7 * 24 * 3600


def store() -> RunStore:
    """All saved runs of this ComfyUI."""
    return RunStore(
        Path(folder_paths.get_system_user_directory("talkstream"), "runs"),
        limit_bytes=settings.size_bytes(settings.SAVED_LIMIT_GB),
        keep_seconds=KEEP_SECONDS,
    )


def open_run(fingerprint: str, spec: StreamSpec | MotionSpec) -> SavedRun | None:
    """The saved run of a stream; None while another process makes it, or without room for any. Raises OSError."""
    runs = store()
    if not runs.limit_bytes:
        return None
    saved = runs.open(fingerprint, shape=chunk_shape(spec))
    size = runs.size_bytes
    if size:
        logger.info("TalkStream keeps %.0f MB of saved runs in %s", size / 1e6, runs.folder)
    return saved
