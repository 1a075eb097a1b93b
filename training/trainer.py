"""The training loop: budget, learning-rate curve, log lines, evaluation, checkpoints and resume."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from .checkpoints import load_training_state, save_training_state
from .metrics import add_row, columns, forget_after, read_rows
from .parallel import agreed, averaged, is_main
from .plots import draw_sheet, plots_of_columns

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

    def step(self, step: int, progress: float) -> Mapping[str, float | Tensor]:
        """One update of everything that trains; returns named losses, numbers or tensors of one."""

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
    """Run a stage until its budget is spent, resuming from the folder's checkpoint; returns the last evaluation.

    The folder gets training.pt (checkpoint), metrics.csv (every report) and metrics.png (its plots). Every process
    calls this; the main one's clock counts, and it alone writes. The same number of processes goes on from a checkpoint
    as if it had never stopped; another number goes on from the same weights with other draws.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "training.pt"
    step, elapsed = load_training_state(checkpoint, stage) if checkpoint.exists() else (0, 0.0)
    report = _Report(folder, budget, step=step)
    peaks = [[group.setdefault("peak_lr", group["lr"]) for group in o.param_groups] for o in stage.optimisers]
    first_step = step
    while budget.progress(elapsed, step) < 1.0 and (
        stop_after_steps is None or step - first_step < stop_after_steps
    ):
        if getattr(stage, "finished", False):
            log.info("finished at step %d: the held-out error falls no more", step)
            break
        started = agreed(time.monotonic())
        progress = budget.progress(elapsed, step)
        share = max(learning_rate_share(progress, warmup=budget.warmup), 1e-3)
        for optimiser, rates in zip(stage.optimisers, peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = peak * share
        losses = {name: float(loss) for name, loss in stage.step(step, progress).items()}
        _require_finite(losses, step)
        step += 1
        now = agreed(time.monotonic())
        elapsed += now - started
        report.add(losses)
        if report.due("log", now):
            report.write("train", report.means(), step=step, elapsed=elapsed)
        if report.due("evaluate", now):
            report.write("held-out", stage.evaluate(), step=step, elapsed=elapsed)
            report.plot()
        if report.due("checkpoint", now):
            save_training_state(checkpoint, stage, step=step, elapsed=elapsed)
    save_training_state(checkpoint, stage, step=step, elapsed=elapsed)
    if report.has_losses:
        report.write("train", report.means(), step=step, elapsed=elapsed)
    final = stage.evaluate()
    report.write("held-out", final, step=step, elapsed=elapsed)
    report.plot()
    return final


def time_left(elapsed: float, progress: float) -> str:
    """Words for the training time that is still to come, at the pace so far."""
    if progress <= 0:
        return "time left unknown"
    seconds = elapsed * (1 - progress) / progress
    if seconds < 90:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"


class _Report:
    """Running means between reports, when each kind is due, and where they are written."""

    def __init__(self, folder: Path, budget: Budget, *, step: int) -> None:
        """step: of the checkpoint that the run goes on from."""
        self._folder, self._budget, self._table = folder, budget, folder / "metrics.csv"
        self._period = {
            "log": budget.log_seconds,
            "evaluate": budget.evaluate_seconds,
            "checkpoint": budget.checkpoint_seconds,
        }
        self._last = dict.fromkeys(self._period, agreed(time.monotonic()))
        self._values: dict[str, list[float]] = {}
        if is_main():
            forget_after(self._table, step)

    @property
    def has_losses(self) -> bool:
        """Whether steps were taken since the last line."""
        return bool(self._values)

    def add(self, losses: dict[str, float]) -> None:
        """Note one step's losses."""
        for name, value in losses.items():
            self._values.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        """Means since the last call, over all processes."""
        means = {name: sum(values) / len(values) for name, values in self._values.items()}
        self._values.clear()
        return averaged(means)

    def due(self, kind: str, now: float) -> bool:
        """Whether it is time for a log line, an evaluation, a checkpoint."""
        if now - self._last[kind] < self._period[kind]:
            return False
        self._last[kind] = now
        return True

    def write(self, kind: str, numbers: dict[str, float], *, step: int, elapsed: float) -> None:
        """A log line and a row of the table."""
        if not is_main():
            return
        progress = self._budget.progress(elapsed, step)
        text = " ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        done = f"step {step}, {elapsed:.0f} s, {progress:.0%}, {time_left(elapsed, progress)}"
        log.info("%s %s: %s", kind, done, text)
        named = {f"{kind}/{name}": value for name, value in numbers.items()}
        add_row(self._table, {"step": step, "seconds": round(elapsed, 1), **named})

    def plot(self) -> None:
        """Draw the table anew."""
        if not is_main():
            return
        plots = plots_of_columns(columns(read_rows(self._table)), x="step")
        draw_sheet(plots).save(self._folder / "metrics.png")


def _require_finite(losses: dict[str, float], step: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value} at step {step}; lower the learning rate and resume")
