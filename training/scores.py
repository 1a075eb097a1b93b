"""The scores of distillation as clean predictions of a window: only the forwards that a rule needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from .data import Batch
from .prediction import predict_x0
from .student import TrainableStudent


class Score(Protocol):
    """A bidirectional network, or several, asked for x0 of noisy windows."""

    def __call__(
        self,
        noisy_BCTHW: Tensor,
        sigma: Tensor,
        batch: Batch,
        latents: Sequence[int],
        *,
        hears: bool | Tensor,
    ) -> Tensor:
        """Arguments and result are predict_x0's."""
        ...


class NetworkScore:
    """One network as a score."""

    def __init__(self, network: TrainableStudent) -> None:
        self._network = network

    def __call__(
        self,
        noisy_BCTHW: Tensor,
        sigma: Tensor,
        batch: Batch,
        latents: Sequence[int],
        *,
        hears: bool | Tensor,
    ) -> Tensor:
        """The network's prediction of every clip."""
        return predict_x0(self._network, noisy_BCTHW, sigma, batch, latents, hears=hears)


class RoutedScore:
    """A general score, and experts for clips of their domain (EchoTorrent 3.2, Multi-Teacher)."""

    def __init__(self, general: Score, experts: Mapping[int, Score]) -> None:
        """experts: by index of the domain. Clips of other domains, or of unknown ones, go to the general score."""
        self._general, self._experts = general, dict(experts)

    def __call__(
        self,
        noisy_BCTHW: Tensor,
        sigma: Tensor,
        batch: Batch,
        latents: Sequence[int],
        *,
        hears: bool | Tensor,
    ) -> Tensor:
        """Each clip's prediction by its own expert; an expert without clips in the batch is not run."""
        result = torch.empty_like(noisy_BCTHW)
        heard = torch.as_tensor(hears, device=noisy_BCTHW.device).expand(len(noisy_BCTHW))
        for score, rows in self._routes(batch):
            result[rows] = score(noisy_BCTHW[rows], sigma[rows], batch.rows(rows), latents, hears=heard[rows])
        return result

    def _routes(self, batch: Batch) -> list[tuple[Score, Tensor]]:
        whole = torch.arange(len(batch.latents), device=batch.latents.device)
        if batch.domain is None or not self._experts:
            return [(self._general, whole)]
        known = torch.stack([batch.domain == index for index in self._experts])
        rows = [*known, ~known.any(dim=0)]
        scores = [*self._experts.values(), self._general]
        return [(score, whole[row]) for score, row in zip(scores, rows, strict=True) if row.any()]


def guided_x0(
    score: Score, scale: Tensor, noisy_BCTHW: Tensor, sigma: Tensor, batch: Batch, latents: Sequence[int]
) -> Tensor:
    """x0_null + scale (x0_conditional - x0_null); the null is asked for only of clips where the scale is not 1.

    scale: broadcasts against (B, C, T, H, W), as guidance_scales gives it.
    """
    result = score(noisy_BCTHW, sigma, batch, latents, hears=True)
    scale = scale.expand(len(result), *scale.shape[1:])
    rows = (scale != 1).flatten(1).any(dim=1).nonzero()[:, 0]
    if not len(rows):
        return result
    null = score(noisy_BCTHW[rows], sigma[rows], batch.rows(rows), latents, hears=False)
    guided = result.clone()
    guided[rows] = null + scale[rows] * (result[rows] - null)
    return guided


def freeze(network: nn.Module) -> nn.Module:
    """A network that only judges."""
    return network.eval().requires_grad_(False)
