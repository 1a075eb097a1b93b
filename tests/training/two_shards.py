"""One iteration of distillation in two processes, whole and sharded, started by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from talkstream.samplers.schedule import Schedule
from talkstream.tests.training.tiny_world import CACHE, SIGMAS, random_bank, random_student
from talkstream.training.checkpoints import load_training_state, save_training_state
from talkstream.training.dmd import DistilSettings, DistilStage
from talkstream.training.parallel import join, leave, rank
from talkstream.training.sharded_tensors import is_sharded, whole_state

LONG_TAIL = {"rollout": "long_tail", "horizon": 12, "long_after": 6, "switch_share": 0.5, "recache": 3}


def distil_stage(*, sharded: bool = False, long_tail: bool = False, **more: object) -> DistilStage:
    """The same networks in every process, and however they are split."""
    rollout = LONG_TAIL if long_tail else {}
    return DistilStage(
        DistilSettings(batch=1, window=6, student_every=1, **rollout), random_bank(5), random_bank(2, seed=1),
        student=random_student(), teacher=random_student(seed=5), cache=CACHE, schedule=Schedule.from_sigmas(SIGMAS),
        sharded=sharded, **more,
    )  # fmt: skip


def own_numbers(stage: DistilStage) -> int:
    """Numbers of the student's network that this process holds."""
    parameters = stage.student.network.parameters()
    return sum((p.to_local() if is_sharded(p) else p).numel() for p in parameters)


def paused_stage(folder: Path, *, long_tail: bool = False) -> DistilStage:
    """Two sharded steps with a pause between them."""
    first, second = (distil_stage(sharded=True, long_tail=long_tail) for _ in range(2))
    first.step(0, 0.5)
    path = folder / ("long_tail.pt" if long_tail else "paused.pt")
    save_training_state(path, first, step=1, elapsed=0.0)
    load_training_state(path, second)
    second.step(1, 0.5)
    return second


def run(folder: Path) -> None:
    """The same two steps whole; sharded; sharded with a pause between them. Streams that live on, with and without."""
    join("cpu")
    torch.set_num_threads(1)
    results = {}
    for name in ("whole", "sharded"):
        stage = distil_stage(sharded=name == "sharded")
        losses = [{k: float(v) for k, v in stage.step(step, 0.5).items()} for step in range(2)]
        weights = whole_state(stage.state_dict())
        results[name] = {"losses": losses, "stage": weights, "own": own_numbers(stage)}
    resumed = paused_stage(folder)
    evaluated = resumed.evaluate()
    results["resumed"] = {"stage": whole_state(resumed.state_dict()), "evaluated": evaluated}
    streaming = distil_stage(sharded=True, long_tail=True)
    for step in range(2):
        streaming.step(step, 0.5)
    for name, stage in (
        ("streaming", streaming),
        ("streaming_resumed", paused_stage(folder, long_tail=True)),
    ):
        results[name] = {
            "student": whole_state(stage.student.state_dict()),
            "speech": stage._windows._batch.mel,
        }
    results["rewards"] = [distil_stage()._reward_of(torch.tensor([3.0 * rank(), 1.0]))]
    torch.save(results, folder / f"rank{rank()}.pt")
    leave()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
