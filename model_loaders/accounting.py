"""Key accounting: every tensor that a network needs is in the file, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..networks.wan import WanConfig, WanModel
from .detect import is_quantisation_key

Shapes = Mapping[str, tuple[int, ...]]
_NAMES_SHOWN = 4


@dataclass(frozen=True)
class KeyReport:
    """The difference between what a file should hold and what it holds.

    reshaped: (name, axes in the file, axes expected).
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def complete(self) -> bool:
        """Whether the file holds exactly what it should."""
        return not (self.missing or self.unexpected or self.reshaped)

    def sentence(self) -> str:
        """Counts and first names of each kind of difference, with the likely cause and what to do."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing ({_first(self.missing)})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unknown ({_first(self.unexpected)})")
        if self.reshaped:
            name, got, expected = self.reshaped[0]
            parts.append(
                f"{len(self.reshaped)} of another size ({name}: {list(got)}, expected {list(expected)})"
            )
        return f"tensors do not fit: {', '.join(parts)}; {self._cause()}"

    def _cause(self) -> str:
        strangers = [name.split(".")[0] for name in self.unexpected]
        if any(name.startswith(("optimizer", "critic", "fake_score", "discriminator")) for name in strangers):
            return "it is a training checkpoint with more than the student in it: export the student alone"
        if self.missing and not self.unexpected:
            return "the file was saved or converted incompletely: download or export it again"
        if self.missing:
            return "the tensors are named for another code base: convert the file, or pick the published one"
        if self.unexpected:
            return "the network has parts that this version does not know: pick the published file of the student"
        return "the file mixes networks of different sizes: download or export it again"


def account(shapes: Shapes, expected: Shapes, *, quantised: bool = False) -> KeyReport:
    """Compare names and axes.

    quantised: companion scales are no strangers, and only the first axis is compared, because packed formats
    shorten the others.
    """
    present = {name: shape for name, shape in shapes.items() if not (quantised and is_quantisation_key(name))}
    missing = tuple(name for name in expected if name not in present)
    unexpected = tuple(name for name in present if name not in expected)
    reshaped = tuple(
        (name, tuple(shape), tuple(expected[name]))
        for name, shape in present.items()
        if name in expected and not _same_axes(shape, expected[name], quantised)
    )
    return KeyReport(missing, unexpected, reshaped)


def expected_shapes(config: WanConfig) -> dict[str, tuple[int, ...]]:
    """Names and axes of a network of these sizes, from the module tree itself; no weights are made."""
    with torch.device("meta"):
        network = WanModel(config)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def check_network(shapes: Shapes, config: WanConfig, *, quantised: bool = False) -> None:
    """Check the tensors of a student, its speech encoder aside.

    Raises:
        ValueError: names are missing, unknown or of other sizes; the sentence lists the first and the counts.
    """
    network = {name: shape for name, shape in shapes.items() if not name.startswith("speech_encoder.")}
    report = account(network, expected_shapes(config), quantised=quantised)
    if not report.complete:
        raise ValueError(report.sentence())


def _same_axes(got: Sequence[int], expected: Sequence[int], quantised: bool) -> bool:
    if quantised and got and expected:
        return got[0] == expected[0]
    return tuple(got) == tuple(expected)


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown + (", ..." if len(names) > _NAMES_SHOWN else "")
