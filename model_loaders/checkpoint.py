"""Safetensors files read by their header: names, shapes and metadata first, tensors one at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH_BYTES = 8
_START_BYTES = 32  # enough to recognise other kinds of files
_HEADER_LIMIT_BYTES = 100_000_000  # the format's own limit
_NAME_LIMIT, _AXES_LIMIT = 1000, 16  # more than any network has
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_FOREIGN_STARTS = (
    (b"PK\x03\x04", "a PyTorch pickle (.pt, .pth, .ckpt)", "convert it to .safetensors first"),
    (b"\x80\x02", "a PyTorch pickle (.pt, .pth, .ckpt)", "convert it to .safetensors first"),
    (b"\x80\x04", "a Python pickle", "convert it to .safetensors first"),
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


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as the header announces it: stored type ("BF16"), axes, bytes [start, end) of the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Checkpoint:
    """A safetensors file known by its header; no tensor is in memory."""

    path: Path
    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> axes, in the order of the header."""
        return {name: header.shape for name, header in self.tensors.items()}

    @property
    def size_bytes(self) -> int:
        """Bytes that all tensors together take in the file."""
        return sum(header.end - header.start for header in self.tensors.values())

    def load(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read only these tensors, on the CPU and in their stored type. Raises ValueError for a damaged file."""
        try:
            with safe_open(str(self.path), framework="pt", device="cpu") as opened:
                return {name: opened.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise ValueError(f"{self.path} cannot be read ({error}); download it again") from error


class LazyTensors(Mapping[str, "Tensor"]):
    """Tensors of a checkpoint under our names, each read from the file when it is asked for.

    names: our name -> name in the file, as the functions of key_maps return it when they are given the
    file's own names as values.
    """

    def __init__(self, checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
        self.checkpoint = checkpoint
        self.names = dict(names)

    def __getitem__(self, name: str) -> Tensor:
        stored = self.names[name]
        return self.checkpoint.load([stored])[stored]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def read(self) -> dict[str, Tensor]:
        """Read all of them in one opening of the file."""
        stored = self.checkpoint.load(self.names.values())
        return {name: stored[in_file] for name, in_file in self.names.items()}

    def subset(self, names: Iterable[str]) -> LazyTensors:
        """The same file, seen through fewer names."""
        return LazyTensors(self.checkpoint, {name: self.names[name] for name in names})


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the header of a safetensors file and check that the file is whole.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, or it was cut off; the sentence says which and what to do.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pick the .safetensors file inside it")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; put the file there or pick another one")
    size = path.stat().st_size
    with path.open("rb") as file:
        header, data_start = _parse_header(path, file, size)
    metadata = _checked_metadata(path, header.pop("__metadata__", {}))
    tensors = {name: _tensor_header(path, name, entry) for name, entry in header.items()}
    _check_whole(path, tensors, data_bytes=size - data_start)
    return Checkpoint(path, tensors, metadata)


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
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} has a damaged safetensors header ({error}); download it again") from error
    return header, _LENGTH_BYTES + length


def _foreign_file(path: Path, start: bytes) -> ValueError:
    """Name the kind of file that begins with these bytes."""
    for magic, kind, remedy in _FOREIGN_STARTS:
        if start.startswith(magic):
            return ValueError(f"{path} is {kind}, not a safetensors file; {remedy}")
    return ValueError(f"{path} is not a safetensors file, whatever its name says; pick another checkpoint")


def _checked_metadata(path: Path, metadata: object) -> dict[str, str]:
    if isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()):
        return metadata
    raise ValueError(f"{path} has damaged metadata, expected names and texts; download it again")


def _tensor_header(path: Path, name: str, entry: dict) -> TensorHeader:
    try:
        start, end = entry["data_offsets"]
        header = TensorHeader(entry["dtype"], tuple(entry["shape"]), start, end)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged_at(path, name) from error
    if not (name.isprintable() and len(name) <= _NAME_LIMIT and _is_sound(header)):
        raise _damaged_at(path, name)
    return header


def _damaged_at(path: Path, name: str) -> ValueError:
    return ValueError(f"{path} has a damaged safetensors header at {name[:80]!r}; download it again")


def _is_sound(header: TensorHeader) -> bool:
    """Whether axes and offsets are whole numbers that agree with each other."""
    numbers = (*header.shape, header.start, header.end)
    if not isinstance(header.dtype, str) or not all(type(n) is int and n >= 0 for n in numbers):
        return False
    size = _BYTES.get(header.dtype)
    fits = size is None or header.end - header.start == size * math.prod(header.shape)
    return len(header.shape) <= _AXES_LIMIT and header.start <= header.end and fits


def _check_whole(path: Path, tensors: Mapping[str, TensorHeader], *, data_bytes: int) -> None:
    """Compare the bytes that the header promises with those that are there."""
    if not tensors:
        raise ValueError(f"{path} holds no tensors; pick another file")
    promised = max(header.end for header in tensors.values())
    if data_bytes > promised:
        raise ValueError(
            f"{path} is damaged: {data_bytes - promised:,} bytes follow its last tensor; download it again"
        )
    if data_bytes < promised:
        raise ValueError(
            f"{path} is cut off: {data_bytes:,} of {promised:,} bytes of weights are there "
            f"({100 * data_bytes // promised} %); the download or copy did not finish, fetch it again"
        )
