"""A session's state on the disk: written whole or not at all, and known when it is damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .spool import DamagedFileError

BLOCK_BYTES = 1 << 20


class _Hashed:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.hash = file, hashlib.blake2b(digest_size=16)

    def write(self, part: bytes) -> int:
        """Write and hash."""
        self.hash.update(part)
        return self._file.write(part)

    def flush(self) -> None:
        """Of the file."""
        self._file.flush()


def write_state(path: Path, state: Mapping[str, Any]) -> str:
    """Write a state (dicts of tensors and numbers) and give its checksum.

    The file appears complete, after it has reached the disk, or not at all. Raises OSError.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        with open(fresh, "wb") as file:
            hashed = _Hashed(file)
            torch.save(dict(state), hashed)
            hashed.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return hashed.hash.hexdigest()


def read_state(path: Path, checksum: str) -> dict[str, Any]:
    """What write_state wrote, on the CPU. Raises DamagedFileError for anything else, OSError without a file."""
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            found.update(block)
    if found.hexdigest() != checksum:
        raise DamagedFileError(f"{path} is damaged")
    return torch.load(path, map_location="cpu", weights_only=True)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's list of names has reached the disk, where the system can be asked for that."""
    with contextlib.suppress(OSError):  # Windows opens no folders, and writes their lists at once
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
