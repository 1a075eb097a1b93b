"""Runs that survive their process: latents and state in a folder, continued by the next run of the same stream."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .locks import FileLock
from .spool import DamagedFileError, Spool
from .state_file import read_state, sync_folder, write_state

logger = logging.getLogger(__name__)

VERSION = 1
"""Of the format of a session's state; a run saved in another one is not continued."""


@dataclass(frozen=True)
class SavePoint:
    """What run.json says: the stream, and how much of it is safe."""

    fingerprint: str
    chunks: int
    shape: tuple[int, ...]
    state: str
    checksum: str
    version: int = VERSION


class SavedRun:
    """One stream's saved latents and state. Only what lies before the newest save point counts.

    A save point appears whole or not at all: latents first, then the state under a new name, then run.json by
    renaming, each after it has reached the disk. Holds a lock until close() or delete().
    """

    def __init__(self, folder: Path, *, fingerprint: str, shape: tuple[int, ...], lock: FileLock) -> None:
        """Use RunStore.open(). What is damaged is removed, with one line in the log."""
        self.folder, self.fingerprint, self._lock = folder, fingerprint, lock
        self._point = self._found(tuple(shape))
        self._spool = Spool(folder / "latents", shape=shape)
        self._spool.keep(self._point.chunks if self._point else 0)
        self.saved = self._spool.chunks

    @property
    def chunks(self) -> int:
        """Chunks that can be read."""
        return self._spool.chunks

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk."""
        return folder_bytes(self.folder)

    def append(self, index: int, latent_BCTHW: Tensor) -> None:
        """Keep a chunk for the next save point; one that is held already changes nothing."""
        if index == self.chunks:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._spool.append(latent_BCTHW)

    def read(self, index: int) -> Tensor:
        """A chunk's latents on the CPU, bit by bit as they were made."""
        return self._spool.read(index)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Make all chunks so far and this state the new save point. Raises OSError; the old one then stays."""
        self._spool.sync()
        name = f"state-{self.chunks}"
        checksum = write_state(self.folder / name, state)
        point = SavePoint(self.fingerprint, self.chunks, self._spool.shape, name, checksum)
        fresh = self.folder / "run.json.new"
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump(asdict(point), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.folder / "run.json")
        sync_folder(self.folder)
        for old in self.folder.glob("state-*"):
            if old.name != name:
                old.unlink()
        self._point, self.saved = point, self.chunks

    def load_state(self) -> dict[str, Any]:
        """The state at the save point. Raises DamagedFileError, OSError."""
        return read_state(self.folder / self._point.state, self._point.checksum)

    def close(self) -> None:
        """Leave it for a later run."""
        self._lock.release(remove=not self.folder.exists())

    def delete(self) -> None:
        """Nobody needs it any more."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _found(self, shape: tuple[int, ...]) -> SavePoint | None:
        """The save point in the folder, checked to the last byte; None where there is none or it is damaged."""
        try:
            read = json.loads((self.folder / "run.json").read_text("utf-8"))
            point = SavePoint(**{**read, "shape": tuple(read["shape"])})
            expected = (self.fingerprint, shape, VERSION)
            if (point.fingerprint, point.shape, point.version) != expected:
                raise DamagedFileError(f"{self.folder} holds another stream")
            spool = Spool(self.folder / "latents", shape=shape)
            if spool.chunks < point.chunks:
                raise DamagedFileError(f"{spool.path} is too short")
            spool.keep(point.chunks)
            spool.check()
            read_state(self.folder / point.state, point.checksum)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning(
                "TalkStream starts this stream from its beginning: its saved state is damaged (%s)", error
            )
            shutil.rmtree(self.folder, ignore_errors=True)
            return None
        return point


@dataclass(frozen=True)
class RunStore:
    """The folder of all saved runs, one sub-folder for each stream, named by its fingerprint.

    limit_bytes, keep_seconds: the oldest runs beyond this size, and those not touched for so long, are removed.
    """

    folder: Path
    limit_bytes: int
    keep_seconds: float

    def open(self, fingerprint: str, *, shape: tuple[int, ...]) -> SavedRun | None:
        """The saved run of a stream, empty where there is none; None while another process runs the same stream."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean(but=fingerprint)
        lock = FileLock.acquire(self.folder / f"{fingerprint}.lock")
        if lock is None:
            return None
        return SavedRun(self.folder / fingerprint, fingerprint=fingerprint, shape=shape, lock=lock)

    @property
    def size_bytes(self) -> int:
        """Bytes of all saved runs."""
        return folder_bytes(self.folder)

    def clean(self, *, but: str) -> None:
        """Remove what is too old or too much, oldest first; never `but`, never what a living process uses."""
        runs = [path for path in self.folder.iterdir() if path.is_dir() and path.name != but]
        left = self.size_bytes
        for run in sorted(runs, key=newest_change):
            age = time.time() - newest_change(run)
            if age <= self.keep_seconds and left <= self.limit_bytes:
                continue
            lock = FileLock.acquire(self.folder / f"{run.name}.lock")
            if lock is not None:
                size = folder_bytes(run)
                shutil.rmtree(run, ignore_errors=True)
                lock.release(remove=True)
                left -= size
                logger.info("TalkStream removed an old saved run of %.0f MB", size / 1e6)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def newest_change(folder: Path) -> float:
    """When anything in a folder was last written, in seconds since the epoch."""
    return max([folder.stat().st_mtime, *(path.stat().st_mtime for path in folder.iterdir())])
