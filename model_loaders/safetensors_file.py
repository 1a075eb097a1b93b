"""Safetensors files read by their header: names, shapes and metadata first, tensors one at a time."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .tensors import Checkpoint, FileReader, TensorHeader

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
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_COPY_BYTES = 16 * 1024 * 1024
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
    """Read only these tensors, on the CPU and in their stored type. Raises ValueError for a damaged file."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as opened:
            return {name: opened.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read ({error}); download it again") from error


def read_safetensors(path: Path, *, read: FileReader = read_tensors) -> Checkpoint:
    """Read the header of a safetensors file and check that the file is whole.

    Raises:
        ValueError: it is another kind of file, or it was cut off; the sentence says which and what to do.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header, data_start = _parse_header(path, file, size)
    metadata = _checked_metadata(path, header.pop("__metadata__", {}))
    tensors = {name: _tensor_header(path, name, entry) for name, entry in header.items()}
    promised = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    _check_whole(path, tensors, promised=promised, data_bytes=size - data_start)
    return Checkpoint(path, tensors, metadata, partial(read, path))


def copy_with_tensor(path: Path, out: Path, *, name: str, tensor: Tensor, metadata: dict[str, str]) -> None:
    """Copy a file with one tensor more behind its others, and with more metadata; the rest byte by byte.

    Raises:
        ValueError: the file has this name already, or no file can hold the tensor's type.
        FileExistsError: there is a file at `out`.
        OSError: it cannot be written; nothing is left of it.
    """
    with path.open("rb") as file:
        header, data_start = _parse_header(path, file, path.stat().st_size)
        if name in header or tensor.dtype not in _DTYPES:
            raise ValueError(f"{path} cannot take a tensor {name} of the type {tensor.dtype}")
        header["__metadata__"] = {**header.get("__metadata__", {}), **metadata}
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        offsets = [max(ends, default=0), max(ends, default=0) + len(data)]
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % _LENGTH_BYTES)
        file.seek(data_start)
        with open(out, "xb") as copy:
            try:
                copy.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
                shutil.copyfileobj(file, copy, _COPY_BYTES)
                copy.write(data)
            except BaseException:
                copy.close()
                os.unlink(out)
                raise


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
        (start, end), shape, dtype = entry["data_offsets"], tuple(entry["shape"]), entry["dtype"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged_at(path, name) from error
    if not (name.isprintable() and len(name) <= _NAME_LIMIT and _is_sound(dtype, shape, start, end)):
        raise _damaged_at(path, name)
    return TensorHeader(dtype, shape, end - start)


def _damaged_at(path: Path, name: str) -> ValueError:
    return ValueError(f"{path} has a damaged safetensors header at {name[:80]!r}; download it again")


def _is_sound(dtype: object, shape: tuple[object, ...], start: object, end: object) -> bool:
    """Whether axes and offsets are whole numbers that agree with each other."""
    numbers = (*shape, start, end)
    if not isinstance(dtype, str) or not all(type(number) is int and number >= 0 for number in numbers):
        return False
    size = _BYTES.get(dtype)
    return (
        len(shape) <= _AXES_LIMIT
        and start <= end
        and (size is None or end - start == size * math.prod(shape))
    )


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
