"""How each tensor of a network comes out of a file: as it is stored, with adapters merged, or with its scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from .tensors import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor


class Recipe(Protocol):
    """parts: names in the file, the first of which gives the axes of the result."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names in the file."""
        ...

    def make(self, *parts: Tensor) -> Tensor:
        """The tensor, out of its parts in order."""
        ...


@dataclass(frozen=True)
class Stored:
    """A tensor as it is in the file."""

    name: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The one name."""
        return (self.name,)

    def make(self, *parts: Tensor) -> Tensor:
        """Itself."""
        return parts[0]


@dataclass(frozen=True)
class LowRank:
    """base + scale * up @ down, computed in float32 and rounded once to the type of the base.

    down: (rank, columns), up: (rows, rank), as LoRA and PEFT store them (lora_A, lora_B).
    """

    base: str
    down: str
    up: str
    scale: float

    @property
    def parts(self) -> tuple[str, ...]:
        """Base, down, up."""
        return self.base, self.down, self.up

    def make(self, *parts: Tensor) -> Tensor:
        """The merged weight; a base of one byte per number becomes bfloat16, which has room for the sum."""
        base, down, up = parts
        change = up.float().flatten(1) @ down.float().flatten(1)
        merged = base.float() + self.scale * change.reshape(base.shape)
        return merged.to(base.dtype if base.element_size() > 1 else torch.bfloat16)


@dataclass(frozen=True)
class Scaled:
    """weight * scale in float32: a scaled fp8 weight made an ordinary one. scale: one number, or one per row."""

    weight: str
    scale: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Weight and scale."""
        return self.weight, self.scale

    def make(self, *parts: Tensor) -> Tensor:
        """The ordinary weight."""
        weight, scale = parts
        rows = scale.float().flatten()
        return weight.float() * (rows if rows.numel() == 1 else rows.reshape(-1, *[1] * (weight.ndim - 1)))


class LazyTensors(Mapping[str, "Tensor"]):
    """Tensors of a checkpoint under our names, each made when it is asked for."""

    def __init__(self, checkpoint: Checkpoint, recipes: Mapping[str, Recipe | str]) -> None:
        """recipes: a text stands for the tensor stored under this name."""
        self.checkpoint = checkpoint
        self.recipes: dict[str, Recipe] = {
            name: Stored(recipe) if isinstance(recipe, str) else recipe for name, recipe in recipes.items()
        }

    def __getitem__(self, name: str) -> Tensor:
        return self.subset([name]).read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.recipes)

    def __len__(self) -> int:
        return len(self.recipes)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Our name -> axes, from the headers."""
        headers = self.checkpoint.tensors
        return {name: headers[recipe.parts[0]].shape for name, recipe in self.recipes.items()}

    def read(self) -> dict[str, Tensor]:
        """Make all of them in one opening of the file."""
        parts = self.checkpoint.load(
            dict.fromkeys(part for recipe in self.recipes.values() for part in recipe.parts)
        )
        return {
            name: recipe.make(*(parts[part] for part in recipe.parts))
            for name, recipe in self.recipes.items()
        }

    def subset(self, names: Iterable[str]) -> LazyTensors:
        """The same file, seen through fewer names."""
        return LazyTensors(self.checkpoint, {name: self.recipes[name] for name in names})

    def changed(self, recipes: Mapping[str, Recipe]) -> LazyTensors:
        """The same file with other names."""
        return LazyTensors(self.checkpoint, recipes)
