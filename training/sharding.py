"""Weights, gradients and optimiser states split over the processes by torch's fully_shard (FSDP2).

Student, teacher and fake score are sharded one by one. A linear layer is the unit that is gathered for its call: the
forward reads a block's layers one after another (on a host the blocks are foreign modules), so a block's own forward,
where fully_shard would gather it, never runs. What is no linear layer belongs to the root, which is gathered while the
whole network runs. So a network works only through its forward, and all processes must call it alike.
"""

from __future__ import annotations

import torch
from torch import nn

from .parallel import world
from .student import TrainableStudent


def shard(student: TrainableStudent) -> None:
    """Split a student's network over all processes, in place; its frozen speech encoder stays whole.

    On a GPU the gathered weights are bfloat16 and gradients are summed in float32; on a CPU all is as stored. Make
    optimisers and averages afterwards. Raises ValueError in a single process, or where the encoder trains.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if world() == 1:
        raise ValueError(
            "there is one process and nothing to shard over; start with accelerate launch, or leave --shard out"
        )
    if any(parameter.requires_grad for parameter in student.encoder.parameters()):
        raise ValueError("the speech encoder trains and would not be sharded; freeze it before")
    on_gpu = next(student.network.parameters()).device.type == "cuda"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if on_gpu else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for module in student.network.modules():
        if isinstance(module, nn.Linear):
            fully_shard(module, reshard_after_forward=True, mp_policy=policy)
    whole = set(student.encoder.parameters())
    fully_shard(student, reshard_after_forward=True, mp_policy=policy, ignored_params=whole)
