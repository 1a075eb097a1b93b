"""The training loop: budget, learning-rate curve, log lines, evaluation, checkpoints and resume."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from .checkpoints import load_training_state, save_training_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """How long a stage trains: seconds of training time, or steps when steps > 0; and how often it reports."""

    seconds: float = 0.0
    steps: int = 0
    warmup: float = 0.02
    log_seconds: float = 30.0
    evaluate_seconds: float = 240.0
    checkpoint_seconds: float = 240.0

    def __post_init__(self) -> None:
        if (self.seconds > 0) == (self.steps > 0):
            raise ValueError(
                f"budget has seconds={self.seconds} and steps={self.steps}; set exactly one of them"
            )

    def scaled(self, factor: float) -> Budget:
        """The same budget, longer or shorter."""
        return replace(self, seconds=self.seconds * factor, steps=round(self.steps * factor))

    def progress(self, elapsed: float, step: int) -> float:
        """Share of the budget that is spent, in [0, 1]."""
        return min(1.0, step / self.steps if self.steps else elapsed / self.seconds)


class Stage(Protocol):
    """One training stage. Randomness of a step comes from its number alone, so that a resumed run is the same.

    One that may end before its budget has a property ``finished``.
    """

    optimisers: list[torch.optim.Optimizer]

    def step(self, step: int, progress: float) -> dict[str, float]:
        """One update of everything that trains; returns named losses."""

    def evaluate(self) -> dict[str, float]:
        """Held-out numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Networks (and running averages) by name."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""


def learning_rate_share(progress: float, *, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero: share of the peak rate at this progress."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def train(
    stage: Stage, budget: Budget, folder: Path, *, stop_after_steps: int | None = None
) -> dict[str, float]:
    """Run a stage until its budget is spent, resuming from the folder's checkpoint; returns the last evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "training.pt"
    step, elapsed = load_training_state(checkpoint, stage) if checkpoint.exists() else (0, 0.0)
    peaks = [[group.setdefault("peak_lr", group["lr"]) for group in o.param_groups] for o in stage.optimisers]
    clock = _Clock(budget)
    first_step = step
    while budget.progress(elapsed, step) < 1.0 and (
        stop_after_steps is None or step - first_step < stop_after_steps
    ):
        if getattr(stage, "finished", False):
            log.info("finished at step %d: the held-out error falls no more", step)
            break
        started = time.monotonic()
        progress = budget.progress(elapsed, step)
        share = max(learning_rate_share(progress, warmup=budget.warmup), 1e-3)
        for optimiser, rates in zip(stage.optimisers, peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = peak * share
        losses = stage.step(step, progress)
        _require_finite(losses, step)
        step += 1
        elapsed += time.monotonic() - started
        clock.add(losses)
        if clock.due("log"):
            _record(folder, "train", step, elapsed, clock.means())
        if clock.due("evaluate"):
            _record(folder, "held-out", step, elapsed, stage.evaluate())
        if clock.due("checkpoint"):
            save_training_state(checkpoint, stage, step=step, elapsed=elapsed)
    save_training_state(checkpoint, stage, step=step, elapsed=elapsed)
    final = stage.evaluate()
    _record(folder, "held-out", step, elapsed, final)
    return final


class _Clock:
    """Running means between log lines, and when each kind of report is due."""

    def __init__(self, budget: Budget) -> None:
        self._period = {
            "log": budget.log_seconds,
            "evaluate": budget.evaluate_seconds,
            "checkpoint": budget.checkpoint_seconds,
        }
        self._last = dict.fromkeys(self._period, time.monotonic())
        self._sums: dict[str, list[float]] = {}

    def add(self, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self._sums.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        means = {name: sum(values) / len(values) for name, values in self._sums.items()}
        self._sums.clear()
        return means

    def due(self, kind: str) -> bool:
        now = time.monotonic()
        if now - self._last[kind] < self._period[kind]:
            return False
        self._last[kind] = now
        return True


def _require_finite(losses: dict[str, float], step: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value} at step {step}; lower the learning rate and resume")


def _record(folder: Path, kind: str, step: int, elapsed: float, numbers: dict[str, float]) -> None:
    text = " ".join(f"{name} {value:.4f}" for name, value in numbers.items())
    log.info("%s step %d, %.0f s: %s", kind, step, elapsed, text)
    line = {"kind": kind, "step": step, "seconds": round(elapsed, 1), **numbers}
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
