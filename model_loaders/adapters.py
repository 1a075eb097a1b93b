"""Low-rank adapters merged while a file is read: PEFT checkpoints, and adapters over a Wan network of their own file.

OmniAvatar trains rank 128 at alpha 64 and saves neither, so a pair without an alpha is merged at one half; LoRA
files that tell their alpha are merged at alpha / rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .recipes import LazyTensors, LowRank, Recipe, Stored

Shapes = Mapping[str, tuple[int, ...]]

UNTOLD_SCALE = 0.5
PATCH = "patch_embedding.weight"
_DOWN = re.compile(r"(?P<layer>.+)\.(?:lora_A(?:\.[^.]+)?|lora_down)\.weight")
_UP = {".lora_A.": ".lora_B.", ".lora_down.": ".lora_up."}
_SAVED = re.compile(r"\.modules_to_save\.[^.]+\.")


@dataclass(frozen=True)
class Merged:
    """Tensors with their adapters merged. pairs: how many were."""

    tensors: LazyTensors
    pairs: int


def is_adapter(names: Mapping[str, object]) -> bool:
    """Whether a file holds pairs of an adapter."""
    return any(_DOWN.fullmatch(name) for name in names)


def is_unmerged(names: Mapping[str, object]) -> bool:
    """Whether a file holds a network and an adapter around its layers, as PEFT saves them."""
    return any(".base_layer." in name for name in names)


def merge_own(tensors: LazyTensors) -> Merged:
    """The network of a file with the adapters that lie in the same file.

    tensors: under flat names, `layer.base_layer.weight` beside `layer.lora_A.weight` and `layer.lora_B.weight`,
    with or without `.default.` and with saved modules in full. Halves of pairs keep their names, so that key
    accounting reports them.

    Raises:
        ValueError: a pair does not fit its layer.
    """
    bases = {_plain(name): recipe for name, recipe in tensors.recipes.items()}
    bases = {name: recipe for name, recipe in bases.items() if name}
    return _merged(tensors.changed(bases), tensors.recipes)


def merge_over(base: LazyTensors, adapter: LazyTensors) -> Merged:
    """A Wan network with an adapter of another file: full tensors replace the base's, pairs are added.

    Both look into one joined checkpoint. The adapter's patch embedding may be wider than the base's, because a
    student takes more input channels than Wan.

    Raises:
        ValueError: the two are of different sizes, or the base is quantised.
    """
    sizes, own = base.shapes, adapter.shapes
    for name in own:
        if name in sizes and name != PATCH and sizes[name] != own[name]:
            raise ValueError(_other_size(name, list(own[name]), list(sizes[name])))
    return _merged(base.changed({**base.recipes, **adapter.recipes}), adapter.recipes)


def _merged(tensors: LazyTensors, adapter: Mapping[str, Recipe]) -> Merged:
    """Lay every pair of the adapter over its layer."""
    recipes, alphas, pairs = dict(tensors.recipes), _alphas(tensors, adapter), 0
    for name in adapter:
        match = _DOWN.fullmatch(name)
        if match is None:
            continue
        weight, up = f"{match['layer']}.weight", _up_name(name)
        if up not in adapter or not isinstance(recipes.get(weight), Stored):
            continue
        stored = [recipe.parts[0] for recipe in (recipes[weight], adapter[name], adapter[up])]
        rank = _checked_rank(tensors, weight, stored)
        alpha = alphas.get(match["layer"])
        recipe = LowRank(*stored, UNTOLD_SCALE if alpha is None else alpha / rank)
        recipes[weight], pairs = recipe, pairs + 1
        for used in (name, up, f"{match['layer']}.alpha"):
            recipes.pop(used, None)
    return Merged(tensors.changed(recipes), pairs)


def _alphas(tensors: LazyTensors, adapter: Mapping[str, Recipe]) -> dict[str, float]:
    """Layer -> alpha, for LoRA files that tell it in tensors of one number."""
    named = {
        name.removesuffix(".alpha"): recipe.parts[0]
        for name, recipe in adapter.items()
        if name.endswith(".alpha") and math.prod(tensors.checkpoint.tensors[recipe.parts[0]].shape) == 1
    }
    values = tensors.checkpoint.load(named.values()) if named else {}
    return {layer: float(values[stored]) for layer, stored in named.items()}


def _checked_rank(tensors: LazyTensors, weight: str, stored: list[str]) -> int:
    """The rank of a pair that fits its layer. stored: base, down, up in the file."""
    base, down, up = (tensors.checkpoint.tensors[name] for name in stored)
    if base.dtype.startswith("F8") or base.dtype in ("I8", "U8"):
        raise ValueError(
            f"the network under the adapter is stored in {base.dtype}, to which nothing can be added exactly; "
            "use its bf16 or fp16 file"
        )
    rank, got = down.shape[:1], (*up.shape[:1], *down.shape[1:])
    if got != base.shape or up.shape[1:2] != rank or rank in ((), (0,)):
        raise ValueError(_other_size(weight, list(got), list(base.shape)))
    return rank[0]


def _other_size(name: str, got: list[int], expected: list[int]) -> str:
    return (
        f"the adapter belongs to a network of another size ({name}: {got} in the adapter, {expected} in the "
        "network); width 1536 belongs to Wan2.1-T2V-1.3B, 5120 to Wan2.1-T2V-14B"
    )


def _up_name(down: str) -> str:
    for mark, other in _UP.items():
        down = down.replace(mark, other)
    return down


def _plain(name: str) -> str:
    """A name of a PEFT checkpoint without its marks; empty for the frozen copy of a module that was trained in full."""
    if ".original_module." in name:
        return ""
    return _SAVED.sub(".", name.replace(".base_layer.", "."))
