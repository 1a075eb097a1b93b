"""Few-step noise schedules: the sigmas of a student and the timesteps its time embedding is fed.

Sigma is the noise level of rectified flow, x = (1 - sigma) x0 + sigma noise, in [0, 1]; the timestep is
1000 sigma. The two are kept apart because some students were trained on rounded timesteps: LiveTalk feeds
1000, 936, 832, 624 (its list cast to bf16) while its sigmas stay 1, 0.9375, 0.8333, 0.625.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

TIMESTEP_SCALE = 1000.0
TIMESTEP_ROUNDINGS = ("none", "bf16")


@dataclass(frozen=True)
class Schedule:
    """Noise levels of one chunk: `sigmas` falls strictly and ends with 0, `timesteps` has one per step."""

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_sigmas(self.sigmas)
        if len(self.timesteps) != len(self.sigmas) - 1:
            raise ValueError(
                f"got {len(self.timesteps)} timesteps for {len(self.sigmas)} sigmas, expected one per step "
                f"({len(self.sigmas) - 1}); leave the final 0 out of the timesteps"
            )

    @property
    def steps(self) -> int:
        """Number of network calls per chunk, the clean-context pass not counted."""
        return len(self.timesteps)

    @classmethod
    def from_sigmas(cls, sigmas: Sequence[float] | Tensor, *, rounding: str = "none") -> Schedule:
        """Builds a schedule from any list or 1-D tensor of falling noise levels in (0, 1].

        A missing final 0 is appended with a log line. `rounding` is how timesteps are rounded before they
        are fed: "none", or "bf16" as LiveTalk was trained. Raises ValueError for any other list.
        """
        levels = _as_floats(sigmas)
        if levels and levels[-1] != 0.0:
            logger.info("noise schedule %s has no final 0: appended", list(levels))
            levels = (*levels, 0.0)
        _check_sigmas(levels)
        return cls(sigmas=levels, timesteps=timesteps_of(levels[:-1], rounding=rounding))


def timesteps_of(sigmas: Sequence[float], *, rounding: str = "none") -> tuple[float, ...]:
    """Timesteps 1000 sigma, as they are or rounded to the nearest bfloat16."""
    timesteps = tuple(TIMESTEP_SCALE * sigma for sigma in sigmas)
    if rounding == "none":
        return timesteps
    if rounding == "bf16":
        return tuple(torch.tensor(timesteps, dtype=torch.float32).to(torch.bfloat16).tolist())
    raise ValueError(f"got timestep rounding {rounding!r}, expected one of {TIMESTEP_ROUNDINGS}")


def shift_sigma(sigma: float, shift: float) -> float:
    """Flow-matching time shift: shift s / (1 + (shift - 1) s), s in [0, 1]; shift 1 changes nothing."""
    if shift <= 0:
        raise ValueError(f"got shift {shift}, expected a positive number; 1 means no shift")
    return shift * sigma / (1.0 + (shift - 1.0) * sigma)


def shifted_sigmas(steps: int, shift: float) -> tuple[float, ...]:
    """Noise levels 1 - i / steps, shifted, then the final 0 (LiveTalk, section 5: 4 steps, shift 5)."""
    if steps < 1:
        raise ValueError(f"got {steps} steps, expected at least 1")
    return (*(shift_sigma(1.0 - i / steps, shift) for i in range(steps)), 0.0)


def spaced_sigmas(steps: int, shift: float) -> tuple[float, ...]:
    """Noise levels in equal steps from 1 to 0.001, shifted, then the final 0 (InfiniteTalk, section 5)."""
    if steps < 1:
        raise ValueError(f"got {steps} steps, expected at least 1")
    lowest = 1.0 / TIMESTEP_SCALE
    span = max(1, steps - 1)
    return (*(shift_sigma(1.0 - (1.0 - lowest) * i / span, shift) for i in range(steps)), 0.0)


def warped_sigmas(timesteps: Sequence[float], *, shift: float) -> tuple[float, ...]:
    """Noise levels of a step list such as 1000, 750, 500, 250 after the shift, then the final 0.

    This is the `warp_denoising_step` option of the Self-Forcing family of repositories.
    """
    levels = tuple(shift_sigma(timestep / TIMESTEP_SCALE, shift) for timestep in timesteps if timestep != 0)
    return (*levels, 0.0)


def _as_floats(sigmas: Sequence[float] | Tensor) -> tuple[float, ...]:
    if isinstance(sigmas, Tensor):
        if sigmas.ndim != 1:
            raise ValueError(f"got sigmas of shape {tuple(sigmas.shape)}, expected one dimension (steps + 1)")
        sigmas = sigmas.tolist()
    return tuple(float(sigma) for sigma in sigmas)


def _check_sigmas(sigmas: Sequence[float]) -> None:
    listed = [round(sigma, 6) for sigma in sigmas]
    if len(sigmas) < 2 or sigmas[-1] != 0.0:
        raise ValueError(f"got sigmas {listed}, expected at least one noise level in (0, 1] and a final 0")
    if not all(math.isfinite(sigma) for sigma in sigmas):
        raise ValueError(f"got sigmas {listed}, expected finite numbers; check the node that made them")
    if sigmas[0] > 1.0:
        raise ValueError(
            f"got sigmas {listed}, expected noise levels up to 1; this student is a flow model, "
            "use the Step Schedule node or a flow scheduler"
        )
    if any(after >= before for before, after in zip(sigmas, sigmas[1:], strict=False)):
        raise ValueError(f"got sigmas {listed}, expected strictly falling levels; remove repeated steps")


LIVETALK_4 = Schedule.from_sigmas(shifted_sigmas(4, 5.0), rounding="bf16")
"""LiveTalk, section 5: sigmas 1, .9375, .8333, .625, timesteps rounded to bf16."""

SYNC_WINDOW_2 = Schedule.from_sigmas((0.999, 0.769, 0.0))
"""Lip Forcing: two steps that land inside the sync window."""

ECHOTORRENT_4 = Schedule.from_sigmas(shifted_sigmas(4, 5.0))
"""EchoTorrent and FlashTalk: four function evaluations, shift 5, exact timesteps."""

PRESETS = {"livetalk_4": LIVETALK_4, "sync_window_2": SYNC_WINDOW_2, "echotorrent_4": ECHOTORRENT_4}
