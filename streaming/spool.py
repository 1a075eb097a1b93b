"""Finished latents in a file: one record per chunk, each with its checksum, in the order of the stream."""

from __future__ import annotations

import os
import struct
import zlib
from math import prod
from pathlib import Path

import torch
from torch import Tensor

CHECKSUM = struct.Struct("<I")


class DamagedFileError(ValueError):
    """What is on the disk is not what was written."""


class Spool:
    """Chunks of one shape, float32, appended one after another and read in any order.

    The file is open only while it is used, so that nothing has to be closed.
    """

    def __init__(self, path: Path, *, shape: tuple[int, ...]) -> None:
        """shape: of every chunk, (1, C, T, H, W). What the file holds already is kept."""
        self.path, self.shape = path, tuple(shape)
        self.record_bytes = 4 * prod(shape) + CHECKSUM.size
        self.chunks = path.stat().st_size // self.record_bytes if path.exists() else 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all chunks."""
        return self.chunks * self.record_bytes

    def append(self, latent_BCTHW: Tensor) -> None:
        """One more chunk. Raises OSError where it cannot be written; the chunks before it stay whole."""
        if latent_BCTHW.dtype != torch.float32 or tuple(latent_BCTHW.shape) != self.shape:
            raise ValueError(
                f"got latents {tuple(latent_BCTHW.shape)} {latent_BCTHW.dtype}, expected {self.shape} float32"
            )
        numbers = latent_BCTHW.detach().cpu().contiguous().numpy().tobytes()
        with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.seek(self.size_bytes)
            file.write(numbers)
            file.write(CHECKSUM.pack(zlib.crc32(numbers)))
            file.truncate()
        self.chunks += 1

    def read(self, index: int) -> Tensor:
        """Chunk number `index`, bit by bit as it was appended. Raises DamagedFileError where it is not."""
        if not 0 <= index < self.chunks:
            raise ValueError(f"got chunk {index}, the file holds {self.chunks}")
        with open(self.path, "rb") as file:
            file.seek(index * self.record_bytes)
            record = file.read(self.record_bytes)
        numbers = record[: -CHECKSUM.size]
        if len(record) != self.record_bytes or CHECKSUM.pack(zlib.crc32(numbers)) != record[-CHECKSUM.size :]:
            raise DamagedFileError(f"chunk {index} of {self.path} is damaged")
        return torch.frombuffer(bytearray(numbers), dtype=torch.float32).reshape(self.shape)

    def keep(self, chunks: int) -> None:
        """Forget all but the first so many chunks."""
        self.chunks = min(self.chunks, chunks)

    def sync(self) -> None:
        """Wait until all of it has reached the disk."""
        with open(self.path, "r+b") as file:
            os.fsync(file.fileno())

    def check(self) -> None:
        """Read everything once. Raises DamagedFileError."""
        for index in range(self.chunks):
            self.read(index)
