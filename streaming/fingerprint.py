"""One name for everything that decides a stream's numbers: equal values, equal name; any other value, another name."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from enum import Enum

import torch
from torch import Tensor

BLOCK_BYTES = 1 << 22
SAMPLE_BYTES = 1 << 14
SAMPLED_FROM_BYTES = 1 << 17
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


class UnknownValueError(TypeError):
    """A value whose content cannot be read, so that two different ones could not be told apart."""


@dataclasses.dataclass(frozen=True, eq=False)
class Weight:
    """A tensor of a network: large ones are told by their beginning, middle and end, which training always moves."""

    tensor: Tensor


class Fingerprint:
    """Hashes values as they are added; names, order and types count."""

    def __init__(self, *, explain: Callable[[object], object] | None = None) -> None:
        """explain: turns what is not known here into known values, or raises UnknownValueError."""
        self._hash = hashlib.blake2b(digest_size=20)
        self._explain = explain or _refuse

    def add(self, name: str, value: object) -> None:
        """One value: numbers, text, tensors, dataclasses, mappings, sequences, and iterators of such.

        Raises UnknownValueError for anything else.
        """
        self._text(f"= {name}")
        self._feed(value)

    def hexdigest(self) -> str:
        """40 characters."""
        return self._hash.hexdigest()

    def _feed(self, value: object) -> None:
        if isinstance(value, PLAIN):
            self._text(f"{type(value).__name__} {value!r}")
        elif isinstance(value, Enum):
            self._text(f"enum {value}")
        elif type(value) in (Tensor, torch.nn.Parameter):
            self._tensor(value)
        elif isinstance(value, Weight) and type(value.tensor) in (Tensor, torch.nn.Parameter):
            self._weight(value.tensor)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type | Weight):
            self._fields(value)
        elif isinstance(value, Mapping):
            self._items("mapping", sorted(value.items(), key=lambda item: repr(item[0])))
        elif isinstance(value, Set):
            self._items("set", sorted(value, key=repr))
        elif isinstance(value, Sequence | Iterator):
            self._items("list", value)
        else:
            self._feed(self._explain(value))

    def _fields(self, value: object) -> None:
        self._text(f"dataclass {type(value).__qualname__}")
        for field in dataclasses.fields(value):
            self.add(field.name, getattr(value, field.name))

    def _items(self, kind: str, values: Sequence[object] | Iterator[object]) -> None:
        self._text(kind)
        for value in values:
            self._text("-")
            self._feed(value)
        self._text("end")

    def _tensor(self, tensor: Tensor) -> None:
        flat = self._flat(tensor)
        step = max(1, BLOCK_BYTES // tensor.element_size())
        for start in range(0, flat.numel(), step):
            self._numbers(flat[start : start + step])

    def _weight(self, tensor: Tensor) -> None:
        if tensor.nbytes < SAMPLED_FROM_BYTES:
            self._tensor(tensor)
            return
        flat, count = self._flat(tensor), SAMPLE_BYTES // tensor.element_size()
        for start in (0, (flat.numel() - count) // 2, flat.numel() - count):
            self._numbers(flat[start : start + count])

    def _flat(self, tensor: Tensor) -> Tensor:
        self._text(f"tensor {tensor.dtype} {tuple(tensor.shape)}")
        return tensor.detach().reshape(-1)

    def _numbers(self, flat: Tensor) -> None:
        self._hash.update(flat.cpu().contiguous().view(torch.uint8).numpy())

    def _text(self, text: str) -> None:
        encoded = text.encode()
        self._hash.update(len(encoded).to_bytes(8, "little"))
        self._hash.update(encoded)


def _refuse(value: object) -> object:
    raise UnknownValueError(f"{type(value).__qualname__} cannot be told apart from others of its kind")
