"""Training state on disk: save, resume. What ships is written by export.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .parallel import is_main, wait_for_all
from .sharded_tensors import optimiser_state_placed, state_placed_like, whole_state

if TYPE_CHECKING:
    from .trainer import Stage


def save_training_state(path: Path, stage: Stage, *, step: int, elapsed: float) -> None:
    """Write everything a resumed run needs; the file is replaced in one move. The main process writes.

    The file holds whole tensors however the networks are sharded, so that any number of processes can go on from it.
    """
    state = {
        "stage": whole_state(stage.state_dict()),
        "optimisers": [whole_state(optimiser.state_dict()) for optimiser in stage.optimisers],
        "step": step,
        "elapsed": elapsed,
    }
    if is_main():
        unfinished = path.with_suffix(".tmp")
        torch.save(state, unfinished)
        unfinished.replace(path)
    wait_for_all()


def load_training_state(path: Path, stage: Stage) -> tuple[int, float]:
    """Restore a stage in place; returns (steps done, seconds trained)."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    stage.load_state_dict(state_placed_like(stage.state_dict(), state["stage"]))
    for optimiser, saved in zip(stage.optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(optimiser_state_placed(optimiser, saved))
    return state["step"], state["elapsed"]
