"""What a teacher makes of noise: many Euler steps over a shifted schedule, guided by speech and caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..samplers.few_step import denoise_chunk
from ..samplers.flow_matching import velocity_from_x0
from ..samplers.guidance import Branch, Guidance, GuidedVelocity
from ..samplers.schedule import TIMESTEP_SCALE, Schedule, shifted_sigmas
from .captions import Captions
from .data import Batch
from .prediction import place_given, predict_x0
from .student import TrainableStudent


@dataclass(frozen=True)
class TeacherSampling:
    """How a teacher samples: steps of a shifted schedule and the strength of both guidances, 1 for none."""

    steps: int = 48
    shift: float = 5.0
    text_guidance: float = 1.0
    audio_guidance: float = 4.5

    def schedule(self, levels: Sequence[float] = ()) -> Schedule:
        """Falling noise levels; each of levels takes the place of the one nearest to it.

        Raises ValueError where two of them want the same place.
        """
        sigmas = list(shifted_sigmas(self.steps, self.shift))
        for level in levels:
            nearest = min(range(self.steps), key=lambda i: abs(sigmas[i] - level))
            sigmas[nearest] = level
        missing = sorted(set(levels) - set(sigmas))
        if missing:
            raise ValueError(f"{self.steps} steps have no room for the levels {missing}; take more steps")
        return Schedule.from_sigmas(sigmas)


class Teacher:
    """A network that sees windows as a whole, with its captions and the guidance it is asked with."""

    def __init__(self, network: TrainableStudent, *, guidance: Guidance) -> None:
        """guidance: with text 1 the null has no speech and the same caption, else no caption either."""
        self.network, self._guidance = network, guidance
        self._captions = Captions(network.network.config.text_dim)

    def text(self, batch: Batch) -> Tensor:
        """The batch's captions (B, M, text width)."""
        return self._captions.of(batch.domain, len(batch.latents)).to(batch.latents)

    def velocity(
        self, batch: Batch, places: Sequence[int], *, on_input: Callable[[int, Tensor], None] | None = None
    ) -> Callable[[Tensor, float, int], Tensor]:
        """What denoise_chunk asks for: guided velocity of a window of the batch's clips.

        on_input(step, x) sees every noisy window before its step.
        """
        text = self.text(batch)
        branches = GuidedVelocity(self._branch_velocity(batch, places, text), self._guidance)

        def velocity(x: Tensor, timestep: float, step: int) -> Tensor:
            if on_input is not None:
                on_input(step, x)
            return branches(x, timestep, step)

        return velocity

    def _branch_velocity(
        self, batch: Batch, places: Sequence[int], text: Tensor
    ) -> Callable[[Tensor, float, int, Branch], Tensor]:
        def velocity(x: Tensor, timestep: float, step: int, branch: Branch) -> Tensor:
            sigma = x.new_full((x.shape[0],), timestep / TIMESTEP_SCALE)
            x0 = predict_x0(
                self.network, x, sigma, batch, places, hears=branch not in ("drop_audio", "uncond"),
                text_BMD=torch.zeros_like(text) if branch in ("drop_text", "uncond") else text,
            )  # fmt: skip
            return velocity_from_x0(x, x0, timestep / TIMESTEP_SCALE)

        return velocity


@torch.no_grad()
def sample_window(
    teacher: Teacher,
    batch: Batch,
    places: Sequence[int],
    *,
    schedule: Schedule,
    noise: Tensor,
    on_input: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Euler steps from noise, like the window, to clean latents (B, C, T, H, W); latent 0 is the portrait where given.

    on_input(step, x) sees the trajectory, all but its end.
    """
    return denoise_chunk(
        teacher.velocity(batch, places, on_input=on_input), noise, schedule=schedule, renoise=None,
        clamp=lambda x: place_given(x, batch.condition, places)[0], x0_dtype=torch.float32,
    )  # fmt: skip
