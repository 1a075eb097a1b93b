"""Where takes live: in ComfyUI's temp folder, below a folder of this process, which goes when the process has gone."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import shutil
import uuid
from pathlib import Path

import folder_paths

from ...streaming.locks import FileLock
from ...streaming.motion import MotionSpec
from ...streaming.running import LATENT_CHANNELS
from ...streaming.source_latents import LatentStore
from ...streaming.spec import StreamSpec
from ...streaming.take import Take
from . import settings

logger = logging.getLogger(__name__)

FOLDER, LOCK = "talkstream", ".lock"


def new_take(spec: StreamSpec | MotionSpec) -> Take:
    """An empty take of a stream whose length is known. Nothing is written before its first chunk."""
    home = ProcessFolder.of(folder_paths.get_temp_directory())
    return Take(
        home.next(),
        shape=chunk_shape(spec),
        total=spec.chunks,
        limit_bytes=settings.size_bytes(settings.TAKE_LIMIT_GB),
    )


def new_store(*, latent_height: int, latent_width: int) -> LatentStore:
    """Room for a video's latents, as large as a take may be. Nothing is written before the first one."""
    return LatentStore(
        ProcessFolder.of(folder_paths.get_temp_directory()).next(),
        height=latent_height,
        width=latent_width,
        limit_bytes=settings.size_bytes(settings.TAKE_LIMIT_GB),
    )


def chunk_shape(spec: StreamSpec | MotionSpec) -> tuple[int, ...]:
    """Of one chunk's latents."""
    return 1, LATENT_CHANNELS, spec.profile.chunk, spec.latent_height, spec.latent_width


class ProcessFolder:
    """This process's part of the temp folder. What dead processes left beside it is removed when it is made."""

    def __init__(self, temp: Path) -> None:
        home = temp / FOLDER
        home.mkdir(parents=True, exist_ok=True)
        remove_stale(home)
        self.path = home / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock = FileLock.acquire(self.path.with_suffix(LOCK))
        self._numbers = itertools.count(1)

    @classmethod
    @functools.cache
    def of(cls, temp: str) -> ProcessFolder:
        """The one of a temp folder."""
        return cls(Path(temp))

    def next(self) -> Path:
        """A folder that nobody else gets; not made yet."""
        return self.path / f"take-{next(self._numbers)}"


def remove_stale(home: Path) -> None:
    """Remove the takes of processes that have ended; a living one holds its lock."""
    for path in home.glob(f"*{LOCK}"):
        lock = FileLock.acquire(path)
        if lock is not None:
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            lock.release(remove=True)
