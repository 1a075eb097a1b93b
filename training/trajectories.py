"""Trajectories of a teacher, kept on disk: where its steps stand at the student's noise levels, and where they end."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data import Batch, LatentBank, take_batch
from .teacher_sampling import Teacher, TeacherSampling, sample_window

_CLIPS_AT_ONCE = 4


@dataclass(frozen=True)
class TrajectoryBank:
    """N trajectories from the clips' start. states (N, L + 1, C, T, H, W) float16 at the L noise levels of a student,
    then the clean end; sigmas (L + 1,), the last one 0; clips, versions (N,): the clip of a LatentBank and its speech.
    """

    states: np.ndarray
    sigmas: np.ndarray
    clips: np.ndarray
    versions: np.ndarray


@dataclass(frozen=True)
class TrajectoryBatch:
    """Trajectories for one update: the clips they belong to, and their states (B, L + 1, C, T, H, W) float32."""

    batch: Batch
    states: Tensor

    def to(self, device: torch.device) -> TrajectoryBatch:
        """The same on a device."""
        return TrajectoryBatch(self.batch.to(device), self.states.to(device))


def make_trajectories(
    teacher: Teacher,
    bank: LatentBank,
    *,
    pairs: int,
    sampling: TeacherSampling,
    levels: tuple[float, ...],
    latents: int,
    seed: int,
) -> TrajectoryBank:
    """Sample clips with the teacher and keep its states at these levels and at the end (CausVid, ODE pairs).

    Clips are drawn without repetition as long as there are any left. The teacher's device is used.
    """
    random, generator = np.random.default_rng([seed, 11]), torch.Generator().manual_seed(seed)
    count = len(bank.latents)
    clips = np.concatenate([random.permutation(count) for _ in range(-(-pairs // count))])[:pairs]
    versions = random.integers(bank.mel.shape[1], size=pairs)
    schedule = sampling.schedule(levels)
    steps = {schedule.sigmas.index(level): place for place, level in enumerate(levels)}
    device = next(teacher.network.parameters()).device
    states = np.empty((pairs, len(levels) + 1, *_clip_shape(bank, latents)), np.float16)
    for first in range(0, pairs, _CLIPS_AT_ONCE):
        rows = slice(first, min(first + _CLIPS_AT_ONCE, pairs))
        batch = take_batch(bank, clips[rows], versions[rows], latents=latents).to(device)
        noise = torch.randn(batch.latents.shape, generator=generator).to(batch.latents)

        def keep(step: int, x: Tensor, rows: slice = rows) -> None:
            if step in steps:
                states[rows, steps[step]] = x.cpu().numpy()

        end = sample_window(teacher, batch, range(latents), schedule=schedule, noise=noise, on_input=keep)
        states[rows, -1] = end.cpu().numpy()
    return TrajectoryBank(states, np.array([*levels, 0.0], np.float32), clips, versions)


def _clip_shape(bank: LatentBank, latents: int) -> tuple[int, ...]:
    channels, _, height, width = bank.latents.shape[1:]
    return channels, latents, height, width


def draw_trajectories(
    bank: LatentBank, trajectories: TrajectoryBank, random: np.random.Generator, *, clips: int
) -> TrajectoryBatch:
    """Random trajectories with their clips' speech as the teacher heard it."""
    chosen = random.integers(len(trajectories.clips), size=clips)
    latents = trajectories.states.shape[3]
    batch = take_batch(bank, trajectories.clips[chosen], trajectories.versions[chosen], latents=latents)
    return TrajectoryBatch(batch, torch.from_numpy(trajectories.states[chosen].astype(np.float32)))


def save_trajectories(path: Path, bank: TrajectoryBank) -> None:
    """Write a bank as one npz file; a file half written is never found under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp.npz")
    np.savez(unfinished, **{item.name: getattr(bank, item.name) for item in fields(bank)})
    unfinished.replace(path)


def load_trajectories(path: Path, *, levels: tuple[float, ...]) -> TrajectoryBank:
    """Read what save_trajectories wrote. Raises ValueError where it holds other noise levels."""
    with np.load(path) as arrays:
        bank = TrajectoryBank(**arrays)
    if not np.allclose(bank.sigmas, [*levels, 0.0]):
        raise ValueError(
            f"{path} holds the levels {bank.sigmas.tolist()} and the student has {list(levels)}; "
            "delete the file to have it made anew"
        )
    return bank
