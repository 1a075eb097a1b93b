"""Where the two scores of distillation are guided, and by how much: rules as pure functions.

Guided is x0_null + g (x0_conditional - x0_null), null = no speech, the same text. A rule gives a scale g for either
score as a map over the window, so that the student's gradient in x0 is share * (fake guided - real guided); a scale of
1 is the conditional prediction alone, and its null is then not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    Each broadcasts against (B, C, T, H, W). real_null, fake_null: numbers of the clips whose null the guidance needs.
    """

    real: Tensor
    fake: Tensor
    share: Tensor
    real_null: tuple[int, ...] = ()
    fake_null: tuple[int, ...] = ()


def guidance_scales(guidance: Guidance, levels: Sequence[float], mouth_BTHW: Tensor) -> Scales:
    """The rule at these noise levels, one per clip; mouth_BTHW: how far a cell belongs to the mouth, in [0, 1].

    Levels are host numbers: which forwards are run must not wait for a device.
    """
    rules: dict[str, Callable[[Guidance, Sequence[float], Tensor], Scales]] = {
        "none": _none, "constant": _constant, "sync_window": _sync_window, "acc": _acc,
    }  # fmt: skip
    return rules[guidance.rule](guidance, levels, mouth_BTHW[:, None])


def _none(guidance: Guidance, levels: Sequence[float], mouth: Tensor) -> Scales:
    """Neither score is guided."""
    return _real_guided(guidance, [False] * len(levels), mouth)


def _constant(guidance: Guidance, levels: Sequence[float], mouth: Tensor) -> Scales:
    """The real score is guided at every level (DMD as published; EchoTorrent, equation 2)."""
    return _real_guided(guidance, [True] * len(levels), mouth)


def _sync_window(guidance: Guidance, levels: Sequence[float], mouth: Tensor) -> Scales:
    """The real score is guided where guidance moves the lips more than the picture (Lip Forcing, Sync-Window DMD)."""
    return _real_guided(guidance, [guidance.low <= t <= guidance.high for t in levels], mouth)


def _real_guided(guidance: Guidance, chosen: Sequence[bool], mouth: Tensor) -> Scales:
    """The real score of the chosen clips is guided, the fake score never is, all of the gradient is kept."""
    scale = mouth.new_tensor([guidance.scale if guided else 1.0 for guided in chosen]).view(-1, 1, 1, 1, 1)
    one = torch.ones_like(scale)
    return Scales(scale, one, one, real_null=_clips(chosen, guidance))


def _clips(chosen: Sequence[bool], guidance: Guidance) -> tuple[int, ...]:
    """Numbers of the chosen clips; none where guidance changes nothing."""
    return tuple(i for i, guided in enumerate(chosen) if guided and guidance.scale != 1)


def _acc(guidance: Guidance, levels: Sequence[float], mouth: Tensor) -> Scales:
    """ACC-DMD (EchoTorrent 3.3, equation 3).

    t > b: fake conditional - real guided. t <= b: fake guided - real conditional, and inside the mouth what the oral
    rule says. Prose: fake conditional - real conditional there. Printed: the cases the other way round, as the paper
    prints them. Zero: no gradient there.
    """
    early = [t > guidance.band for t in levels]
    first = mouth.new_tensor(early).view(-1, 1, 1, 1, 1)
    guided = {"prose": 1 - mouth, "printed": mouth, "zero": torch.ones_like(mouth)}[guidance.oral]
    kept = 1 - mouth if guidance.oral == "zero" else torch.ones_like(mouth)
    return Scales(
        real=1 + (guidance.scale - 1) * first,
        fake=1 + (guidance.scale - 1) * guided * (1 - first),
        share=first + (1 - first) * kept,
        real_null=_clips(early, guidance),
        fake_null=_clips([not is_early for is_early in early], guidance),
    )
