"""Safetensors files read by their header: names, shapes and metadata first, tensors one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from safetensors import safe_open

from .tensors import Checkpoint, FileReader, TensorHeader

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH_BYTES = 8
_START_BYTES = 32  # enough to recognise other kinds of files
_HEADER_LIMIT_BYTES = 100_000_000  # the format's own limit
_FOREIGN_STARTS = (
    (b"\x80\x04", "a Python pickle", "ask its author for a safetensors file"),
    (b"GGUF", "a GGUF file", "load it with a GGUF loader and connect its MODEL to Use Model as Student"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer without weights",
        "run 'git lfs pull' or download it",
    ),
    (b"<!DOCTYPE", "a web page", "download the file itself, not the page that shows it"),
    (b"<!doctype", "a web page", "download the file itself, not the page that shows it"),
    (b"<html", "a web page", "download the file itself, not the page that shows it"),
    (b"{", "a JSON file", "pick the .safetensors file beside it"),
)


def read_tensors(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Read only these tensors, on the CPU and in their stored type."""
    with safe_open(str(path), framework="pt", device="cpu") as opened:
        return {name: opened.get_tensor(name) for name in names}


def read_safetensors(path: Path, *, read: FileReader = read_tensors) -> Checkpoint:
    """Read the header of a safetensors file and check that the file is whole.

    Raises:
        ValueError: it is another kind of file, or it was cut off; the sentence says which and what to do.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header, data_start = _parse_header(path, file, size)
    metadata = header.pop("__metadata__", {})
    tensors = {name: _tensor_header(path, name, entry) for name, entry in header.items()}
    promised = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    _check_whole(path, tensors, promised=promised, data_bytes=size - data_start)
    return Checkpoint(path, tensors, metadata, partial(read, path))


def _parse_header(path: Path, file: BinaryIO, size: int) -> tuple[dict, int]:
    """Decode the JSON header; returns it with the offset of the first data byte."""
    start = file.read(_START_BYTES)
    if not start:
        raise ValueError(f"{path} is empty; download it again")
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if not 2 <= length <= _HEADER_LIMIT_BYTES or start[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
        raise _foreign_file(path, start)
    if _LENGTH_BYTES + length > size:
        raise ValueError(
            f"{path} is cut off inside its header ({size:,} bytes are there, the header alone needs "
            f"{_LENGTH_BYTES + length:,}); the download or copy did not finish, fetch it again"
        )
    file.seek(_LENGTH_BYTES)
    try:
        header = json.loads(file.read(length))
    except ValueError as error:
        raise ValueError(f"{path} has a damaged safetensors header ({error}); download it again") from error
    return header, _LENGTH_BYTES + length


def _foreign_file(path: Path, start: bytes) -> ValueError:
    """Name the kind of file that begins with these bytes."""
    for magic, kind, remedy in _FOREIGN_STARTS:
        if start.startswith(magic):
            return ValueError(f"{path} is {kind}, not a safetensors file; {remedy}")
    return ValueError(f"{path} is not a safetensors file, whatever its name says; pick another checkpoint")


def _tensor_header(path: Path, name: str, entry: dict) -> TensorHeader:
    try:
        start, end = entry["data_offsets"]
        return TensorHeader(entry["dtype"], tuple(entry["shape"]), end - start)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has a damaged safetensors header at {name!r}; download it again") from error


def _check_whole(path: Path, tensors: dict[str, TensorHeader], *, promised: int, data_bytes: int) -> None:
    """Compare the bytes that the header promises with those that are there."""
    if not tensors:
        raise ValueError(f"{path} holds no tensors; pick another file")
    if data_bytes > promised:
        raise ValueError(
            f"{path} is damaged: {data_bytes - promised:,} bytes follow its last tensor; download it again"
        )
    if data_bytes < promised:
        raise ValueError(
            f"{path} is cut off: {data_bytes:,} of {promised:,} bytes of weights are there "
            f"({100 * data_bytes // promised} %); the download or copy did not finish, fetch it again"
        )
