"""A take: what a stream has made, kept so that no later pull has to make it again."""

from __future__ import annotations

import logging
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .spool import Spool
from .state_file import read_state, write_state

logger = logging.getLogger(__name__)


class Take:
    """The finished latents of one stream in a folder of their own, which goes when the take is let go.

    A take that ends before its stream is of use only with the session's state at its end (save_state), from which
    the next pull goes on.
    """

    def __init__(self, folder: Path, *, shape: tuple[int, ...], total: int, limit_bytes: int) -> None:
        """folder: made with the first chunk. shape: of a chunk's latents; total: chunks of the whole stream.

        limit_bytes: a take that would grow larger is dropped, and 0 keeps none.
        """
        self.folder, self.total, self.limit_bytes = folder, total, limit_bytes
        self.dropped = limit_bytes <= 0
        self._spool = Spool(folder / "latents", shape=shape)
        self._state: tuple[int, str, int] | None = None  # chunks before it, checksum, bytes
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def chunks(self) -> int:
        """Chunks that can be read."""
        return self._spool.chunks

    @property
    def complete(self) -> bool:
        """Whether it holds the whole stream."""
        return self.chunks == self.total

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk."""
        return self._spool.size_bytes + (self._state[2] if self._state else 0)

    def append(self, index: int, latent_BCTHW: Tensor) -> None:
        """Keep a chunk; one that is held already, or comes after the take was dropped, changes nothing."""
        if self.dropped or index != self.chunks:
            return
        if self.size_bytes + self._spool.record_bytes > self.limit_bytes:
            self._drop(f"it grew beyond the limit of {self.limit_bytes / 1e9:.3g} GB")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._spool.append(latent_BCTHW)
        except OSError as error:
            self._drop(f"{self.folder} cannot be written ({error.strerror})")

    def read(self, index: int) -> Tensor:
        """A chunk's latents on the CPU, bit by bit as they were made."""
        return self._spool.read(index)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep the state of the session that made the chunks so far, so that another can go on behind them."""
        if self.dropped or not self.chunks:
            return
        path = self.folder / "state"
        try:
            checksum = write_state(path, state)
        except OSError as error:
            self._drop(f"{self.folder} cannot be written ({error.strerror})")
            return
        self._state = self.chunks, checksum, path.stat().st_size
        if self.size_bytes > self.limit_bytes:
            self._drop(
                f"with the session's state it is larger than the limit of {self.limit_bytes / 1e9:.3g} GB"
            )

    def load_state(self) -> dict[str, Any]:
        """The state behind the last chunk, for a take that is not complete. Raises DamagedFileError, OSError."""
        if self._state is None or self._state[0] != self.chunks:
            raise ValueError("this take holds no state behind its last chunk; rewind() it first")
        return read_state(self.folder / "state", self._state[1])

    def rewind(self) -> None:
        """After a pull that failed: go back to where a pull can go on, the saved state or the beginning."""
        if not self.complete:
            self._spool.keep(self._state[0] if self._state else 0)
            if not self.chunks:
                self._clear()

    def _drop(self, reason: str) -> None:
        self.dropped = True
        self._clear()
        logger.info("TalkStream keeps no take of this stream: %s; another pull makes it anew", reason)

    def _clear(self) -> None:
        self._spool.keep(0)
        self._state = None
        shutil.rmtree(self.folder, ignore_errors=True)
