"""A lock between processes that the system itself takes away from one that has died."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import BinaryIO


class FileLock:
    """Held by one process at a time and only while it lives, whatever ends it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        """Use acquire()."""
        self.path, self._file = path, file

    @classmethod
    def acquire(cls, path: Path) -> FileLock | None:
        """The lock, without waiting; None where somebody holds it. Raises OSError where the file cannot be made."""
        while True:
            file = open(path, "a+b")
            if not _lock(file):
                file.close()
                return None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    return cls(path, file)
            file.close()  # its owner removed the file between our two calls

    def release(self, *, remove: bool = False) -> None:
        """Let others have it; remove: and take the file away."""
        if sys.platform == "win32":  # there an open file cannot be removed
            self._file.close()
        if remove:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                self.path.unlink()
        self._file.close()


def _lock(file: BinaryIO) -> bool:
    """Whether this process got it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
