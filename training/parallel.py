"""Training in several processes: each draws its own part of the batch, all apply the same gradient, one writes.

What the processes share is asked of torch.distributed, which accelerate's launcher (or torchrun) has set up; alone,
every function here does nothing and costs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from .sharded_tensors import is_sharded, whole

_PATIENCE = timedelta(hours=12)  # the main process may draw and encode clips for hours while the others wait
_BUCKET = 1 << 24  # numbers that travel together


def join(device: str | None) -> torch.device:
    """Join the processes that a launcher started, if any; returns this one's device.

    device: "cpu", "cuda" or None for a GPU where there is one; alone also a numbered one, such as "cuda:1".
    """
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=_PATIENCE)
    return torch.device(device) if device and state.num_processes == 1 else state.device


def leave() -> None:
    """End the communication with the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process among all."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and log lines."""
    return rank() == 0


def wait_for_all() -> None:
    """Return when every process is here."""
    if world() > 1:
        dist.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """Run a block in the main process, then in the others, which find the files that it has made."""
    if not is_main():
        wait_for_all()
    yield
    if is_main():
        wait_for_all()


@dataclass(frozen=True)
class Draws:
    """Randomness of one step, from its number alone, so that a resumed run is the same.

    shared: equal in all processes, for what they must choose alike. own, noise: of this process's part of the batch.
    """

    shared: np.random.Generator
    own: np.random.Generator
    noise: torch.Generator


def draw(seed: int, step: int, *, part: int | None = None) -> Draws:
    """Randomness of a step for a part of the batch; None is the part of this process."""
    own = np.random.default_rng([seed, step, 1 + (rank() if part is None else part)])
    noise = torch.Generator().manual_seed(int(own.integers(2**62)))
    return Draws(np.random.default_rng([seed, step]), own, noise)


def draw_own(seed: int, step: int, *, stream: int) -> np.random.Generator:
    """More randomness of a step for the part of this process, in streams of its own, numbered from 1."""
    return np.random.default_rng([seed, step, 1 + rank(), stream])


def agreed(value: float) -> float:
    """The main process's number, in all of them."""
    if world() == 1:
        return value
    shared = [value]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def averaged(numbers: Mapping[str, float]) -> dict[str, float]:
    """Mean over the processes of each number, over those that have it."""
    if world() == 1:
        return dict(numbers)
    everyone = everyones(dict(numbers))
    names = dict.fromkeys(name for some in everyone for name in some)
    values = {name: [some[name] for some in everyone if name in some] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}


def everyones(state: Any) -> list[Any]:  # noqa: ANN401
    """What each process has, in their order."""
    states = [state] * world()
    if world() > 1:
        dist.all_gather_object(states, state)
    return states


def joined(own_B: Tensor) -> Tensor:
    """The clips of all processes behind one another, on every one of them; each must have as many."""
    if world() == 1:
        return own_B
    parts = [torch.empty_like(own_B) for _ in range(world())]
    dist.all_gather(parts, own_B.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over the processes; one that a process lacks counts as zeros there.

    Parameters whose gradient no process has keep none. Sharded ones are passed over: theirs are means already.
    """
    if world() == 1:
        return
    own = [p for p in parameters if p.requires_grad and not is_sharded(p)]
    if not own:
        return
    present = torch.tensor([p.grad is not None for p in own], dtype=torch.int32, device=own[0].device)
    dist.all_reduce(present, dist.ReduceOp.MAX)
    used = [p for p, somewhere in zip(own, present.tolist(), strict=True) if somewhere]
    for bucket in _buckets(used):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = (flat / world()).split([p.numel() for p in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = part.view_as(parameter)


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Runs of parameters of one dtype and of about _BUCKET numbers."""
    for _, alike in itertools.groupby(parameters, key=lambda p: p.dtype):
        bucket: list[nn.Parameter] = []
        for parameter in alike:
            bucket.append(parameter)
            if sum(p.numel() for p in bucket) >= _BUCKET:
                yield bucket
                bucket = []
        if bucket:
            yield bucket


def update(
    optimisers: Iterable[torch.optim.Optimizer],
    loss: Tensor,
    network: nn.Module,
    *,
    max_norm: float | None = None,
) -> Tensor | None:
    """One step on a network: the gradient of the loss, and what apply_gradients does with it."""
    loss.backward()
    return apply_gradients(optimisers, network, max_norm=max_norm)


def apply_gradients(
    optimisers: Iterable[torch.optim.Optimizer], network: nn.Module, *, max_norm: float | None = None
) -> Tensor | None:
    """Average a network's gradients over the processes, cut them to a norm, step, forget them.

    Every process must call it alike. max_norm: None cuts nothing, so that gradients of any finite size pass, which Muon
    does not mind. Returns the norm before the cut, None without one.
    """
    average_gradients(network.parameters())
    norm = None if max_norm is None else whole(nn.utils.clip_grad_norm_(network.parameters(), max_norm))
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return norm
