"""From a path to a checkpoint: one safetensors file, shards with or without their index, or a PyTorch file."""

from __future__ import annotations

from pathlib import Path

from .pickle_file import is_pickle, read_pickle
from .safetensors_file import read_safetensors, read_tensors
from .shards import INDEX_END, is_shard, read_folder, read_index, read_shards
from .tensors import Checkpoint, FileReader


def read_checkpoint(path: str | Path, *, read: FileReader = read_tensors) -> Checkpoint:
    """Read the headers of a checkpoint and check that it is whole.

    path: a file, any shard or the index of a split checkpoint, or the folder that holds one.
    read: how to read tensors of safetensors files, where a host has a better way.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, or it was cut off; the sentence says which and what to do.
    """
    path = Path(path)
    if path.is_dir():
        return read_folder(path, read=read)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; put the file there or pick another one")
    if path.name.endswith(INDEX_END):
        return read_index(path, read=read)
    if is_shard(path):
        return read_shards(path, read=read)
    if is_pickle(path):
        return read_pickle(path)
    return read_safetensors(path, read=read)
