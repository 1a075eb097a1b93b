"""A checkpoint as the loaders see it: what its headers announce, and a way to read single tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Reads the named tensors of one safetensors file on the CPU, in their stored type.
FileReader = Callable[[Path, Iterable[str]], "dict[str, Tensor]"]


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as its file announces it. dtype: in the names of safetensors ("BF16")."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """A file, or several that belong together, known by headers; no tensor is in memory.

    load: reads only the tensors of these names, on the CPU and in their stored type.
    form: how it is stored, for a node, such as "6 shards"; empty for one safetensors file.
    shards: the files of a split checkpoint, otherwise empty.
    """

    path: Path
    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str]
    load: Callable[[Iterable[str]], dict[str, Tensor]]
    form: str = ""
    shards: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the tensors lie in."""
        return self.shards or (self.path,)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> axes, in the order of the header."""
        return {name: header.shape for name, header in self.tensors.items()}

    @property
    def size_bytes(self) -> int:
        """Bytes that all tensors together take in the file."""
        return sum(header.size_bytes for header in self.tensors.values())


def joined(base: Checkpoint, over: Checkpoint, *, base_mark: str, over_mark: str) -> Checkpoint:
    """Two checkpoints as one, the names of each behind its mark; metadata of the second."""
    marks = {base_mark: base, over_mark: over}
    tensors = {mark + name: header for mark, part in marks.items() for name, header in part.tensors.items()}

    def load(names: Iterable[str]) -> dict[str, Tensor]:
        wanted, result = list(names), {}
        for mark, part in marks.items():
            own = [name.removeprefix(mark) for name in wanted if name.startswith(mark)]
            result |= {mark + name: tensor for name, tensor in part.load(own).items()}
        return result

    return Checkpoint(over.path, tensors, over.metadata, load, over.form)
