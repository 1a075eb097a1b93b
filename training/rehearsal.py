"""A recipe at the size of a released student: two steps on random data, and the memory that it will need."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import torch

from .config import Recipe, StageRecipe
from .dmd import DistilStage
from .finetune import FinetuneStage
from .memory_plan import StageTensors
from .shapes import Shape
from .student import make_student
from .teacher import TeacherStage

log = logging.getLogger(__name__)

STEPS = 2
PROCESSES = (1, 4, 8, 16)
_CLIPS = 2


def rehearse(
    recipe: Recipe, shape: Shape, *, device: torch.device, sharded: bool = False
) -> list[StageTensors]:
    """Take two steps of each stage of a recipe that trains the network; logs how long, and how much memory per process.

    device: "meta" runs every shape through rollout, scores, losses and gradients without a number in it, for networks
    that do not fit here. Returns what each stage keeps. Raises ValueError where no stage trains the network.
    """
    kept = []
    for part in recipe.stages:
        if part.stage not in _MAKERS:
            log.info("%s: does not depend on the student's shape, passed over", part.stage)
            continue
        stage = _MAKERS[part.stage](part, shape, device=device, sharded=sharded)
        started = time.monotonic()
        for step in range(STEPS):
            stage.step(step, progress=0.5)
        log.info("%s: %d steps on %s in %.1f s", part.stage, STEPS, device, time.monotonic() - started)
        averaged = stage.average.state_dict().values()
        kept.append(StageTensors.of(stage.networks, averaged, stage.optimisers))
        for line in kept[-1].describe(PROCESSES):
            log.info("%s", line)
    if not kept:
        raise ValueError(f"no stage of the recipe trains the student; it needs one of {', '.join(_MAKERS)}")
    return kept


def _finetune(part: StageRecipe, shape: Shape, *, device: torch.device, sharded: bool) -> FinetuneStage:
    """Without a reader, as in distillation."""
    bank = shape.random_bank(_CLIPS)
    settings = replace(part.settings, reading_share=0.0)
    return FinetuneStage(
        settings, bank, bank, network=shape.network, speech=None, cache=shape.profile.cache_spec,
        sigmas=shape.profile.sigmas, device=device, sharded=sharded,
    )  # fmt: skip


def _teacher(part: StageRecipe, shape: Shape, *, device: torch.device, sharded: bool) -> TeacherStage:
    bank = shape.random_bank(_CLIPS)
    return TeacherStage(
        part.settings, bank, bank, network=shape.network, speech=None, device=device, sharded=sharded
    )


def _distil(part: StageRecipe, shape: Shape, *, device: torch.device, sharded: bool) -> DistilStage:
    """Without readers, which are trained on the world's own latents; the student learns on each step."""
    bank = shape.random_bank(_CLIPS)
    student, teacher = (make_student(shape.network, None, seed=seed, device=device) for seed in (0, 1))
    settings = replace(
        part.settings, reading_share=0.0, blink_share=0.0, reward="none", student_every=1, critic_warmup=0
    )
    return DistilStage(
        settings, bank, bank, student=student, teacher=teacher, cache=shape.profile.cache_spec,
        schedule=shape.schedule, sharded=sharded,
    )  # fmt: skip


_MAKERS = {"teacher": _teacher, "finetune": _finetune, "distil": _distil}
