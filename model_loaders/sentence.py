"""A student's file that brings its own sentence: the encoded text it was trained with, beside its weights.

Such a student needs no text encoder and no CONDITIONING. The rows lie under SENTENCE, as (1, rows, width); the
words, where they are known, in the file's metadata under the same name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..networks.wan import WanConfig
from .conditioning_file import read_conditioning
from .recipes import LazyTensors
from .safetensors_file import copy_with_tensor

SENTENCE = "talkstream_sentence"
_WORDS_SHOWN = 100  # characters of the sentence in one line for a node


def split_sentence(tensors: LazyTensors) -> tuple[LazyTensors, LazyTensors | None]:
    """Separate (the student's tensors, its sentence); None for a file without one."""
    if SENTENCE not in tensors.recipes:
        return tensors, None
    return tensors.subset([name for name in tensors if name != SENTENCE]), tensors.subset([SENTENCE])


def check_sentence(sentence: LazyTensors | None, config: WanConfig) -> None:
    """Raises ValueError for rows that the network cannot read."""
    if sentence is None:
        return
    shape = sentence.shapes[SENTENCE]
    if len(shape) != 3 or shape[0] != 1 or shape[1] < 1 or shape[2] != config.text_dim:
        raise ValueError(
            f"its sentence {SENTENCE} has the axes {list(shape)}, expected [1, rows, {config.text_dim}]; write the "
            "file again with 'talkstream sentence'"
        )


def read_sentence(sentence: LazyTensors | None) -> Tensor | None:
    """Rows (1, M, width) in their stored type, or None."""
    return None if sentence is None else sentence[SENTENCE]


def describe_sentence(sentence: LazyTensors, metadata: Mapping[str, str]) -> str:
    """One phrase for a node: how long it is, and its words where the file tells them."""
    words = textwrap.shorten(metadata.get(SENTENCE, ""), _WORDS_SHOWN, placeholder=" ...")
    rows = f"brings its sentence ({sentence.shapes[SENTENCE][1]} rows)"
    return f'{rows}: "{words}"' if words else rows


def add_sentence(
    student: Path, conditioning: Path, out: Path, *, config: WanConfig, metadata: Mapping[str, str]
) -> None:
    """Copy a student's .safetensors file and put the sentence of a file of Save Conditioning into the copy.

    config, metadata: of the student. Its weights are copied byte by byte, in constant memory.

    Raises:
        ValueError: the text is not one sentence of the width that the student reads, or it has one already.
        OSError: the copy cannot be written; none is left.
    """
    if SENTENCE in metadata:
        raise ValueError(f"{student} brings a sentence already; start from the file as it was published")
    pairs, note = read_conditioning(conditioning)
    rows_BMD = pairs[0][0]
    if len(pairs) != 1 or rows_BMD.shape[0] != 1:
        raise ValueError(f"{conditioning} holds several texts, expected one; save a single CLIP Text Encode")
    if rows_BMD.shape[2] != config.text_dim:
        raise ValueError(
            f"{conditioning} holds rows {rows_BMD.shape[2]} wide, the student reads {config.text_dim}; encode the "
            "sentence with umT5-XXL"
        )
    copy_with_tensor(student, out, name=SENTENCE, tensor=rows_BMD, metadata={SENTENCE: note})
