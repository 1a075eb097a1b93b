"""True clips as a student shows them: each chunk noised to the last level, restored in one step, given the true past.

What comes out has the student's flaws and the clip's own content, so that it can be compared with the clip's frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks.kv_cache import CLEAN_PASS, CacheSpec, GrowingKVCache
from ..samplers.flow_matching import add_noise, x0_from_velocity
from ..samplers.schedule import Schedule
from .conditions import Condition
from .precision import half_precision
from .student import TrainableStudent


@torch.no_grad()
def restore(
    student: TrainableStudent,
    truth_BCTHW: Tensor,
    *,
    schedule: Schedule,
    cache: CacheSpec,
    condition: Condition,
    speech_BTV: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Clips from their start, whole chunks, in student units -> the last step's clean estimates of them, as long.

    A ``clean`` cache holds the true latents before a chunk; one ``per_step`` holds them as each step sees them, noised
    to its level. A sink of its own is written from the reference, then from the true first latents where its source
    says so.
    """
    height, width = truth_BCTHW.shape[-2:]
    past = GrowingKVCache(
        cache, layers=len(student.network.blocks), dim=student.network.dim, heads=student.network.num_heads,
        grid=(height // 2, width // 2), batch=len(truth_BCTHW), device=truth_BCTHW.device,
    )  # fmt: skip

    def velocity(x: Tensor, timestep: float, first: int) -> Tensor:
        latents = range(first, first + x.shape[2])
        with half_precision(x.device):
            flow = student(
                torch.cat([x, condition.channels(latents)], dim=1),
                timestep_BT=x.new_full((len(x), 1), timestep),
                speech_BTV=speech_BTV[:, latents.start : latents.stop], cache=past,
            )  # fmt: skip
        return flow.float()

    def write_sink(latents_BCTHW: Tensor) -> None:
        past.begin_sink(latents_BCTHW.shape[2])
        velocity(latents_BCTHW, 0.0, 0)
        past.end_sink()

    restored = []
    own_sink = cache.sink > 0 and cache.sink_source != "first_latents"
    if own_sink:
        write_sink(condition.reference_BC1HW)
    for truth in truth_BCTHW.split(cache.chunk, dim=2):
        first = past.next_latent
        clamp = condition.clamp if first == 0 and condition.clamped else _unchanged
        past.begin_chunk(truth.shape[2])
        steps = range(schedule.steps) if cache.mode == "per_step" else (schedule.steps - 1,)
        for step in steps:
            sigma = schedule.sigmas[step]
            x = clamp(add_noise(truth, torch.randn(truth.shape, generator=generator).to(truth), sigma))
            past.begin_pass(step)
            x0 = clamp(x0_from_velocity(x, velocity(x, schedule.timesteps[step], first), sigma))
        if cache.mode == "clean":
            past.begin_pass(CLEAN_PASS)
            velocity(truth, 0.0, first)
        past.end_chunk()
        restored.append(x0)
        if own_sink and first == 0 and cache.sink_source == "reference_then_first_generated":
            write_sink(truth[:, :, : cache.sink])
    return torch.cat(restored, dim=2)


def _unchanged(x: Tensor) -> Tensor:
    return x
