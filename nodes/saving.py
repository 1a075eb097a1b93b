"""Behind Save Stream: runs that a crash does not undo. Their latents and state wait in ComfyUI's user folder."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..streaming.fingerprint import UnknownValueError
from ..streaming.saved_run import SavedRun
from .budget import cache_dtype
from .host import saved_runs
from .host.identity import fingerprint
from .source_video import parts_of_source
from .types import Frames, Stream

logger = logging.getLogger(__name__)

AUTO = -1
AUTO_SECONDS = 60
"""Shorter streams are made again sooner than anybody misses them."""
AUTO_CHUNKS = 20


def chunks_between_saves(frames: Frames, wish: int) -> int:
    """0: never. AUTO: as long as it is worth it."""
    if wish != AUTO:
        return wish
    return AUTO_CHUNKS if frames.frames / frames.fps >= AUTO_SECONDS else 0


@contextmanager
def saved_run(frames: Frames, *, every: int) -> Iterator[SavedRun | None]:
    """Where this stream is saved, with what an earlier process left of it; None where it is not saved.

    Deleted when the body ends; left for the next run when it fails.
    """
    saved = open_saved_run(frames.stream) if every and not frames.stream.take.complete else None
    if saved is None:
        yield None
        return
    try:
        if saved.chunks:
            begin = saved.chunks * frames.frames / frames.stream.spec.chunks / float(frames.fps)
            logger.info("TalkStream goes on at %.0f s, where an earlier run of this stream ended", begin)
        yield saved
    except BaseException:
        saved.close()
        raise
    saved.delete()


def open_saved_run(stream: Stream) -> SavedRun | None:
    """The saved run of this very stream; None, with one line in the log, where it cannot be told or kept."""
    try:
        name = fingerprint(parts_of(stream))
    except UnknownValueError as error:
        logger.info(
            "TalkStream saves no state of this run: %s on the MODEL cannot be told from others", error
        )
        return None
    try:
        saved = saved_runs.open_run(name, stream.spec)
    except OSError as error:
        logger.warning("TalkStream saves no state of this run: %s", error)
        return None
    if saved is None:
        logger.info(
            "TalkStream saves no state of this run: the settings leave no room, or another process makes it"
        )
    return saved


def parts_of(stream: Stream) -> dict[str, object]:
    """Everything that decides the latents."""
    fields = [field.name for field in dataclasses.fields(stream) if field.name not in ("take", "source")]
    parts = {name: getattr(stream, name) for name in fields}
    if stream.source is not None:
        parts["source"] = parts_of_source(stream.source)
    return {"cache dtype": cache_dtype(stream), **parts}
