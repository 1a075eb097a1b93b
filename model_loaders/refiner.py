"""A refined video decoder: which tensors of a file take the place of a Wan 2.1 VAE's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .accounting import account
from .checkpoint import read_checkpoint
from .recipes import LazyTensors

DECODER, PRE_DECODER = "decoder.", "conv2."
_ANCHOR = "head.0.gamma"  # every Wan 2.1 decoder has it, and its length is the decoder's width


def read_refiner(path: str | Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The decoder tensors of a file under a VAE's own names, on the CPU and as stored.

    path: decoder weights alone, or a whole VAE, of which only the decoding half is read. expected: names and axes of
    all tensors of the VAE that is refined.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut off, holds no decoder of this kind, or one of another size.
    """
    checkpoint = read_checkpoint(path)
    names = decoder_names(checkpoint.shapes)
    if not names:
        raise ValueError(
            f"{path} holds no video decoder of the Wan 2.1 kind; pick the file of a refined decoder or of a whole VAE"
        )
    shapes = {name: checkpoint.tensors[stored].shape for name, stored in names.items()}
    replaced = (DECODER, PRE_DECODER) if any(name.startswith(PRE_DECODER) for name in names) else (DECODER,)
    report = account(shapes, {name: axes for name, axes in expected.items() if name.startswith(replaced)})
    if not report.complete:
        raise ValueError(f"{path} is no decoder for this VAE: {report.sentence()}")
    return LazyTensors(checkpoint, names).read()


def decoder_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """A VAE's name -> name in the file, for the decoder and the convolution before it; empty for another file.

    Names may stand behind a wrapper such as "vae.", and a decoder saved alone may lack its "decoder.".
    """
    anchors = sorted((name for name in shapes if name == _ANCHOR or name.endswith("." + _ANCHOR)), key=len)
    inside = next((name for name in anchors if name.endswith(DECODER + _ANCHOR)), None)
    if inside is not None:
        wrapper = inside.removesuffix(DECODER + _ANCHOR)
        whole = {name.removeprefix(wrapper): name for name in shapes if name.startswith(wrapper)}
        return {name: stored for name, stored in whole.items() if name.startswith((DECODER, PRE_DECODER))}
    if _ANCHOR in anchors:
        return {DECODER + name: name for name in shapes}
    return {}
