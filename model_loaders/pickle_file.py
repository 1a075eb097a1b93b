"""PyTorch's own files (.pt, .pth, .ckpt): tensors and plain containers only, never code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .tensors import Checkpoint, TensorHeader

STARTS = (b"PK\x03\x04", b"\x80\x02")  # a zip of today's torch.save, a bare pickle of before 2020
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


def is_pickle(path: Path) -> bool:
    """Whether a file begins as torch.save writes it; a safetensors header of that length has a brace behind it."""
    with path.open("rb") as file:
        start = file.read(9)
    return start.startswith(STARTS) and not start.endswith(b"{")


def read_pickle(path: Path) -> Checkpoint:
    """Read the tensors of a PyTorch file; nested containers become names joined by dots.

    Only tensors and plain containers are accepted (weights_only). Files of today stay on disk until a tensor is
    used (mmap). Numbers and texts beside the tensors, such as a step counter, are passed over.

    Raises:
        ValueError: the file is cut off, holds objects other than tensors, or is named as another kind of file.
    """
    if path.suffix == ".safetensors":
        raise ValueError(
            f"{path} is a PyTorch pickle under the name of a safetensors file; rename it so that it ends in .pt"
        )
    zipped = zipfile.is_zipfile(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is a PyTorch pickle with objects other than tensors, which are not run for safety; ask its "
            "author for a safetensors file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is a PyTorch pickle that is damaged or cut off; the download or copy did not finish, "
            "fetch it again"
        ) from error
    tensors = dict(_flattened(content, ""))
    if not tensors:
        raise ValueError(f"{path} is a PyTorch pickle without tensors; pick another file")
    headers = {name: _header(tensor) for name, tensor in tensors.items()}

    def load(names: Iterable[str]) -> dict[str, Tensor]:
        return {name: tensors[name] for name in names}

    return Checkpoint(path, headers, {}, load, "a PyTorch file")


def _flattened(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401
    """(name, tensor) of every tensor in nested dictionaries."""
    if isinstance(content, Tensor):
        yield prefix.rstrip("."), content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flattened(value, f"{prefix}{key}.")


def _header(tensor: Tensor) -> TensorHeader:
    dtype = _DTYPES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
    return TensorHeader(dtype, tuple(tensor.shape), tensor.nbytes)
