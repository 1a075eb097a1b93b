"""Noise levels behind the Step Schedule node and the SIGMAS wire."""

from __future__ import annotations

from comfy_api.latest import io

from ..samplers.schedule import SYNC_WINDOW_2, Schedule, shift_sigma, shifted_sigmas
from .host.graft import profile_of
from .schedule import AS_TRAINED, FOUR_STEPS, TWO_STEPS


def sigmas_of(preset: str, *, shift: float, custom: str, model: io.Model.Type | None) -> tuple[float, ...]:
    """Falling noise levels ending in 0. Raises ValueError for a list that is none, or a missing MODEL."""
    if preset == AS_TRAINED:
        if model is None:
            raise ValueError(
                "Step Schedule has no MODEL to read the levels from: connect Load Student or pick a preset"
            )
        return profile_of(model).sigmas
    if preset == TWO_STEPS:
        return SYNC_WINDOW_2.sigmas
    if preset == FOUR_STEPS:
        return shifted_sigmas(4, shift)
    return Schedule.from_sigmas([shift_sigma(level, shift) for level in parse_levels(custom)]).sigmas


def parse_levels(text: str) -> tuple[float, ...]:
    """Numbers separated by commas or spaces."""
    words = text.replace(",", " ").split()
    try:
        return tuple(float(word) for word in words)
    except ValueError as error:
        raise ValueError(
            f"got custom levels {text!r}, expected numbers such as '1, 0.75, 0.5, 0.25'"
        ) from error
