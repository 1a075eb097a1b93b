"""What two processes do together, started by torchrun; the numbers go into the folder that is given."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from talkstream.tests.training.tiny_world import CACHE, NETWORK, SIGMAS, SPEECH, random_bank
from talkstream.training.finetune import FinetuneSettings, FinetuneStage
from talkstream.training.parallel import average_gradients, averaged, join, leave, main_first, rank
from talkstream.training.trainer import Budget, train

STEPS = 3


def finetune_stage() -> FinetuneStage:
    """The same stage in every process."""
    return FinetuneStage(
        FinetuneSettings(batch=2), random_bank(5), random_bank(2, seed=1),
        network=NETWORK, speech=SPEECH, cache=CACHE, sigmas=SIGMAS,
    )  # fmt: skip


def uneven_gradients() -> list[torch.Tensor | None]:
    """Means of gradients of which the second process lacks one and both lack another."""
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.tensor([1.0, 2.0]) * (1 + rank())
    if rank() == 0:
        parameters[1].grad = torch.tensor([4.0, 8.0])
    average_gradients(parameters)
    return [parameter.grad for parameter in parameters]


def run(folder: Path) -> None:
    """Everything that needs two processes."""
    join("cpu")
    torch.set_num_threads(1)
    with main_first():
        found = (folder / "made").exists()
        (folder / "made").touch()
    stage = finetune_stage()
    losses = [stage.step(step, 0.5)["causal"].item() for step in range(STEPS)]
    resumed = finetune_stage()
    train(resumed, Budget(steps=STEPS), folder / "parts", stop_after_steps=2)
    resumed = finetune_stage()
    train(resumed, Budget(steps=STEPS), folder / "parts")
    whole = finetune_stage()
    train(whole, Budget(steps=STEPS), folder / "whole")
    result = {
        "found": found, "losses": losses, "uneven": uneven_gradients(), "averaged": averaged({"rank": rank()}),
        "student": stage.student.state_dict(), "resumed": resumed.student.state_dict(),
        "whole": whole.student.state_dict(),
    }  # fmt: skip
    torch.save(result, folder / f"rank{rank()}.pt")
    leave()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
