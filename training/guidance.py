"""Where the two scores of distillation are guided, and by how much: rules as pure functions.

Guided is x0_null + g (x0_conditional - x0_null), null = no speech, the same text. A rule gives a scale g for either
score as a map over the window, so that the student's gradient in x0 is share * (fake guided - real guided); a scale of
1 is the conditional prediction alone, and its null is then not computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

GuidanceRule = Literal["none", "constant", "sync_window", "acc"]
OralRule = Literal["prose", "printed", "zero"]

RULE_SCALES: dict[str, float] = {"none": 1.0, "constant": 1.8, "sync_window": 4.5, "acc": 1.8}
"""Each rule's scale where the settings give none: EchoTorrent 4.1, Lip Forcing 7.3."""


@dataclass(frozen=True)
class Guidance:
    """A rule and its numbers; levels t are noise levels in [0, 1].

    scale: g. low, high: of the sync window, both inside. band: b of ACC-DMD; t > b is early. oral: what ACC-DMD does
    inside the mouth at t <= b.
    """

    rule: GuidanceRule
    scale: float
    low: float = 0.556
    high: float = 0.882
    band: float = 0.556
    oral: OralRule = "prose"

    def __post_init__(self) -> None:
        if self.scale < 0 or not 0 <= self.low <= self.high <= 1 or not 0 <= self.band <= 1:
            raise ValueError(
                f"guidance has scale {self.scale}, sync window {self.low}..{self.high}, band {self.band}; expected a "
                "scale of at least 0 and levels that rise within 0..1"
            )


@dataclass(frozen=True)
class Scales:
    """Guidance of the real and of the fake score, and the share of the gradient that is kept.

    Each broadcasts against (B, C, T, H, W).
    """

    real: Tensor
    fake: Tensor
    share: Tensor


def guidance_scales(guidance: Guidance, sigma_B: Tensor, mouth_BTHW: Tensor) -> Scales:
    """The rule at these noise levels; mouth_BTHW: how far a cell belongs to the mouth, in [0, 1]."""
    rules: dict[str, Callable[[Guidance, Tensor, Tensor], Scales]] = {
        "none": _none, "constant": _constant, "sync_window": _sync_window, "acc": _acc,
    }  # fmt: skip
    return rules[guidance.rule](guidance, sigma_B.view(-1, 1, 1, 1, 1), mouth_BTHW[:, None])


def _none(guidance: Guidance, t: Tensor, mouth: Tensor) -> Scales:
    """Neither score is guided."""
    one = torch.ones_like(t)
    return Scales(one, one, one)


def _constant(guidance: Guidance, t: Tensor, mouth: Tensor) -> Scales:
    """The real score is guided at every level (DMD as published; EchoTorrent, equation 2)."""
    one = torch.ones_like(t)
    return Scales(guidance.scale * one, one, one)


def _sync_window(guidance: Guidance, t: Tensor, mouth: Tensor) -> Scales:
    """The real score is guided where guidance moves the lips more than the picture (Lip Forcing, Sync-Window DMD)."""
    one = torch.ones_like(t)
    inside = (t >= guidance.low) & (t <= guidance.high)
    return Scales(torch.where(inside, guidance.scale * one, one), one, one)


def _acc(guidance: Guidance, t: Tensor, mouth: Tensor) -> Scales:
    """ACC-DMD (EchoTorrent 3.3, equation 3).

    t > b: fake conditional - real guided. t <= b: fake guided - real conditional, and inside the mouth what the oral
    rule says. Prose: fake conditional - real conditional there. Printed: the cases the other way round, as the paper
    prints them. Zero: no gradient there.
    """
    early = t > guidance.band
    one = torch.ones_like(t)
    real = torch.where(early, guidance.scale * one, one)
    guided = {"prose": 1 - mouth, "printed": mouth, "zero": torch.ones_like(mouth)}[guidance.oral]
    fake = torch.where(early, torch.ones_like(mouth), 1 + (guidance.scale - 1) * guided)
    kept = 1 - mouth if guidance.oral == "zero" else torch.ones_like(mouth)
    return Scales(real, fake, torch.where(early, torch.ones_like(mouth), kept))
