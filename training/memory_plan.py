"""How much memory a stage needs in each process when it is sharded, counted tensor by tensor, without activations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

GIB = 1 << 30


def shard_bytes(tensors: Iterable[Tensor], processes: int) -> int:
    """Bytes of the first process's parts: fully_shard cuts the first axis into equal runs of rows, rounded up."""
    total = 0
    for tensor in tensors:
        rows, width = (tensor.shape[0], tensor[0].numel()) if tensor.ndim else (1, 1)
        total += -(-rows // processes) * width * tensor.element_size()
    return total


@dataclass(frozen=True)
class StageTensors:
    """What a stage keeps from step to step.

    networks: weights by role. average: running means of the student's. trained: parameters that get a gradient.
    optimiser: states of theirs.
    """

    networks: Mapping[str, list[Tensor]]
    average: list[Tensor]
    trained: list[Tensor]
    optimiser: list[Tensor]

    @classmethod
    def of(
        cls,
        networks: Mapping[str, nn.Module],
        average: Iterable[object],
        optimisers: Iterable[torch.optim.Optimizer],
    ) -> StageTensors:
        """Read them from a stage after its first step, when the optimisers have states."""
        optimisers = list(optimisers)
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        states = [entry for optimiser in optimisers for entry in optimiser.state.values()]
        return cls(
            {role: list(network.parameters()) for role, network in networks.items()},
            [tensor for tensor in average if isinstance(tensor, Tensor)],
            [parameter for group in groups for parameter in group["params"]],
            [v for entry in states for v in entry.values() if isinstance(v, Tensor) and v.ndim],
        )

    def bytes_per_process(self, processes: int) -> dict[str, int]:
        """Bytes of each kind in the first of so many processes, gradients as large as their parameters."""
        weights = [tensor for tensors in self.networks.values() for tensor in tensors]
        kinds = {
            "weights": weights, "average": self.average, "gradients": self.trained, "optimisers": self.optimiser,
        }  # fmt: skip
        return {kind: shard_bytes(tensors, processes) for kind, tensors in kinds.items()}

    def describe(self, process_counts: Iterable[int]) -> list[str]:
        """Lines of a table, GiB per process; gathered is the largest layer in bfloat16, which comes on top."""
        sizes = {role: sum(t.numel() for t in tensors) for role, tensors in self.networks.items()}
        lines = ["weights: " + ", ".join(f"{role} {size / 1e9:.2f} billion" for role, size in sizes.items())]
        gathered = max(2 * t.numel() for tensors in self.networks.values() for t in tensors) / GIB
        lines.append(
            f"{'processes':>9} {'weights':>8} {'average':>8} {'gradients':>9} {'optimisers':>10} {'GiB':>8}"
        )
        for count in process_counts:
            kinds = self.bytes_per_process(count)
            weights, average, gradients, optimisers = (value / GIB for value in kinds.values())
            total = sum(kinds.values()) / GIB
            lines.append(
                f"{count:>9} {weights:>8.2f} {average:>8.2f} {gradients:>9.2f} {optimisers:>10.2f} {total:>8.2f}"
            )
        return [*lines, f"gathered at a time: {gathered:.3f} GiB; activations come on top"]
