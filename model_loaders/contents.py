"""What a file holds, under the flat names of a Wan network: wrappers off, foreign names translated, adapters merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .adapters import is_adapter, is_unmerged, merge_over, merge_own
from .checkpoint import read_checkpoint
from .key_maps import from_diffusers, network_prefix, split_training, strip_wrappers
from .recipes import LazyTensors, Scaled
from .safetensors_file import read_tensors
from .tensors import FileReader, joined

Form = Literal["plain", "unmerged", "adapter"]
_BASE, _ADAPTER = "base: ", "adapter: "
_SCALES = (".scale_weight", ".weight_scale")


@dataclass(frozen=True)
class Contents:
    """A file's tensors under flat names.

    form: "plain", "unmerged" (PEFT adapters lay in the same file), or "adapter" (merged into the network of another
    file, or still without one).
    notes: what a user should know of how the file was read, one phrase each.
    """

    tensors: LazyTensors
    form: Form = "plain"
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Of the file that was asked for."""
        return self.tensors.checkpoint.path

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Flat name -> axes."""
        return self.tensors.shapes

    @property
    def metadata(self) -> Mapping[str, str]:
        """Of the file."""
        return self.tensors.checkpoint.metadata


def read_contents(
    path: str | Path, *, base: str | Path | None = None, read: FileReader = read_tensors
) -> Contents:
    """Read the headers of a file and say where each tensor comes from; no weights are read.

    base: the Wan network that an adapter is merged into; not looked at for any other file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one sentence that starts with the path: it is cut off, or adapter and base do not fit.
    """
    contents = _flat(Path(path), read)
    try:
        if is_unmerged(contents.tensors):
            return _with_own_adapters(contents)
        if is_adapter(contents.tensors):
            return _over_base(contents, base, read)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return contents


def unscaled(tensors: LazyTensors) -> LazyTensors:
    """The same tensors, with the scales of scaled fp8 weights multiplied in."""
    recipes = {}
    for name, recipe in tensors.recipes.items():
        layer, _, kind = name.rpartition(".")
        scale = next((layer + end for end in _SCALES if layer + end in tensors.recipes), None)
        if kind == "weight" and scale is not None:
            recipes[name] = Scaled(recipe.parts[0], tensors.recipes[scale].parts[0])
        elif not _describes_another(name, tensors.recipes):
            recipes[name] = recipe
    return tensors.changed(recipes)


def _describes_another(name: str, names: Mapping[str, object]) -> bool:
    ends = (*_SCALES, ".scale_input", ".input_scale", ".comfy_quant")
    return name == "scaled_fp8" or any(
        name.endswith(end) and name.removesuffix(end) + ".weight" in names for end in ends
    )


def _flat(path: Path, read: FileReader) -> Contents:
    checkpoint = read_checkpoint(path, read=read)
    names = {name: name for name in checkpoint.tensors}
    flat = strip_wrappers(names)
    notes = (f"read from {checkpoint.form}",) if checkpoint.form else ()
    if network_prefix(names):
        flat, beside = split_training(flat)
        if beside:
            parts = ", ".join(sorted({name.split(".")[0] for name in beside}))
            notes = (*notes, f"{len(beside)} tensors of its training left aside ({parts})")
    return Contents(LazyTensors(checkpoint, from_diffusers(flat)), "plain", notes)


def _with_own_adapters(contents: Contents) -> Contents:
    merged = merge_own(contents.tensors)
    note = f"{merged.pairs} adapters merged in float32"
    return Contents(merged.tensors, "unmerged", (*contents.notes, note))


def _over_base(contents: Contents, base: str | Path | None, read: FileReader) -> Contents:
    if base is None:
        return replace(contents, form="adapter")
    under = _flat(Path(base), read)
    both = joined(under.tensors.checkpoint, contents.tensors.checkpoint, base_mark=_BASE, over_mark=_ADAPTER)
    lower, upper = (
        LazyTensors(both, {name: mark + recipe.parts[0] for name, recipe in part.tensors.recipes.items()})
        for mark, part in ((_BASE, under), (_ADAPTER, contents))
    )
    merged = merge_over(lower, upper)
    note = f"{merged.pairs} adapters merged in float32 into {Path(base).name}"
    return Contents(merged.tensors, "adapter", (*contents.notes, note))
