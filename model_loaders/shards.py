"""Checkpoints split over several safetensors files, by their index or by their numbered names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .safetensors_file import read_safetensors
from .tensors import Checkpoint, FileReader

if TYPE_CHECKING:
    from torch import Tensor

INDEX_END = ".safetensors.index.json"
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")


def is_shard(path: Path) -> bool:
    """Whether the name says that the file is one of several, as in model-00001-of-00006.safetensors."""
    return _NUMBERED.fullmatch(path.name) is not None


def read_folder(folder: Path, *, read: FileReader) -> Checkpoint:
    """The one checkpoint inside a folder: by its index, or its only safetensors file.

    Raises:
        ValueError: the folder holds no checkpoint, or several.
    """
    found = sorted(folder.glob(f"*{INDEX_END}"))
    if len(found) == 1:
        return read_index(found[0], read=read)
    files = sorted(folder.glob("*.safetensors"))
    if not found and files and is_shard(files[0]):
        return read_shards(files[0], read=read)
    if not found and len(files) == 1:
        return read_safetensors(files[0], read=read)
    held = f"{len(found)} indices" if found else f"{len(files)} safetensors files and no index"
    raise ValueError(f"{folder} is a folder with {held}; pick the file itself")


def read_shards(path: Path, *, read: FileReader) -> Checkpoint:
    """All shards of a checkpoint, one of which was picked; through the index beside it where there is one.

    Raises:
        ValueError: shards are missing, or one is damaged.
    """
    match = _NUMBERED.fullmatch(path.name)
    stem, count = match["stem"], int(match["count"])
    index = path.with_name(stem + INDEX_END)
    if index.is_file():
        return read_index(index, read=read)
    names = [f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    return _joined(path, names, read=read)


def read_index(index: Path, *, read: FileReader) -> Checkpoint:
    """All shards that an index names; every tensor must be in the shard that it says.

    Raises:
        ValueError: the index is damaged, shards are missing, or they do not hold what it says.
    """
    try:
        weights = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted(set(weights.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of shards ({error!r}); download it again") from error
    if any(Path(name).name != name for name in names):
        raise ValueError(f"{index} names files outside its folder; download it again")
    checkpoint = _joined(index, names, read=read)
    lost = [name for name in weights if name not in checkpoint.tensors]
    if lost:
        raise ValueError(
            f"{index} promises {len(lost)} tensors that its shards lack ({', '.join(lost[:3])}); the files are of "
            "different versions, download them again together"
        )
    return checkpoint


def _joined(path: Path, names: list[str], *, read: FileReader) -> Checkpoint:
    """One checkpoint out of shards in the folder of a path."""
    absent = [name for name in names if not (path.parent / name).is_file()]
    if absent:
        raise ValueError(
            f"{path} has {len(names)} shards, {len(absent)} of which are missing ({', '.join(absent[:3])}); "
            "download them into the same folder"
        )
    parts = {name: read_safetensors(path.parent / name, read=read) for name in names}
    home = {tensor: name for name, part in parts.items() for tensor in part.tensors}
    tensors = {tensor: part.tensors[tensor] for part in parts.values() for tensor in part.tensors}
    metadata = {key: value for part in parts.values() for key, value in part.metadata.items()}

    def load(wanted: Iterable[str]) -> dict[str, Tensor]:
        return _load_by_file(parts, home, wanted)

    shards = tuple(path.parent / name for name in names)
    return Checkpoint(path, tensors, metadata, load, f"{len(names)} shards", shards)


def _load_by_file(
    parts: Mapping[str, Checkpoint], home: Mapping[str, str], wanted: Iterable[str]
) -> dict[str, Tensor]:
    """Open every shard once."""
    by_file: dict[str, list[str]] = {}
    for tensor in wanted:
        by_file.setdefault(home[tensor], []).append(tensor)
    loaded: dict[str, Tensor] = {}
    for name, tensors in by_file.items():
        loaded |= parts[name].load(tensors)
    return loaded
