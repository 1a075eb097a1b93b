"""An encoded text in a file: what a text encoder of 11 GB made once, in a few megabytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .checkpoint import read_checkpoint
from .neighbours import name_neighbour

Conditioning = Sequence[Sequence[Any]]  # pairs of rows (B, M, D) and a dictionary of options

METADATA_KEY = "talkstream_conditioning"
_PLAIN = (str, int, float, bool, type(None))


def write_conditioning(path: str | Path, conditioning: Conditioning, *, text: str = "") -> None:
    """Write encoded texts with the tensors and plain values beside them. text: a note for the reader.

    Raises:
        ValueError: there is nothing to write, or something that no file can hold, such as a ControlNet.
    """
    if not conditioning:
        raise ValueError("got an empty conditioning; connect CLIP Text Encode")
    tensors: dict[str, Tensor] = {}
    plain: list[dict[str, Any]] = []
    for number, (rows_BMD, options) in enumerate(conditioning):
        _check_rows(rows_BMD)
        tensors[f"{number}.rows"] = rows_BMD.detach().cpu().contiguous()
        plain.append(_split_options(options, number, tensors))
    told = {"options": plain, "text": text}
    save_file(tensors, str(path), metadata={METADATA_KEY: json.dumps(told)})


def read_conditioning(path: str | Path) -> tuple[list[list[Any]], str]:
    """Read what write_conditioning wrote: pairs of rows (B, M, D) and options, and the note.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is another kind of file, cut off or damaged; the sentence says which.
    """
    checkpoint = read_checkpoint(path)
    if METADATA_KEY not in checkpoint.metadata:
        neighbour = name_neighbour(checkpoint.shapes)
        kind = "a student" if neighbour is None else neighbour.description
        raise ValueError(f"{path} is {kind}, not an encoded text; pick a file that Save Conditioning wrote")
    try:
        told = json.loads(checkpoint.metadata[METADATA_KEY])
        tensors = checkpoint.load(checkpoint.tensors)
        pairs = [_pair(number, options, tensors) for number, options in enumerate(told["options"])]
        note = str(told["text"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); save the conditioning again") from error
    for rows_BMD, _ in pairs:
        _check_rows(rows_BMD)
    return pairs, note


def describe(conditioning: Conditioning) -> str:
    """One phrase: "512 rows, 4096 wide, bfloat16"; of the first where there are several."""
    rows_BMD = conditioning[0][0]
    kind = str(rows_BMD.dtype).removeprefix("torch.")
    several = f", {len(conditioning)} of them" if len(conditioning) > 1 else ""
    return f"{rows_BMD.shape[1]} rows, {rows_BMD.shape[2]} wide, {kind}{several}"


def _check_rows(rows_BMD: Tensor) -> None:
    if not isinstance(rows_BMD, Tensor) or rows_BMD.ndim != 3 or not rows_BMD.is_floating_point():
        shape = tuple(rows_BMD.shape) if isinstance(rows_BMD, Tensor) else type(rows_BMD).__name__
        raise ValueError(
            f"got an encoded text of shape {shape}, expected three axes (batch, rows, width); connect CLIP Text Encode"
        )
    if not bool(torch.isfinite(rows_BMD).all()):
        raise ValueError(
            "the encoded text holds NaN or infinite values; encode it again in a higher precision"
        )


def _split_options(options: Mapping[str, Any], number: int, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Put the tensors among the options to the others and return what is plain."""
    plain = {}
    for key, value in options.items():
        if isinstance(value, Tensor):
            tensors[f"{number}.options.{key}"] = value.detach().cpu().contiguous()
        elif isinstance(value, _PLAIN):
            plain[key] = value
        else:
            raise ValueError(
                f"the conditioning carries {key!r} ({type(value).__name__}), which no file can hold; save what CLIP "
                "Text Encode gives, and put other nodes behind Load Conditioning"
            )
    return plain


def _pair(number: int, options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[Any]:
    start = f"{number}.options."
    own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    return [tensors[f"{number}.rows"], {**options, **own}]
