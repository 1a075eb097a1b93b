"""The scores of distillation as clean predictions of a window: only the forwards that a rule needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from .captions import Captions
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
    """One network as a score; it reads the clips' captions, with their speech and without."""

    def __init__(self, network: TrainableStudent) -> None:
        self._network = network
        self._captions = Captions(network.network.config.text_dim)

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
        text = self._captions.of(batch.domain, len(noisy_BCTHW)).to(noisy_BCTHW)
        return predict_x0(self._network, noisy_BCTHW, sigma, batch, latents, hears=hears, text_BMD=text)


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

    def _routes(self, batch: Batch) -> list[tuple[Score, list[int]]]:
        clips = range(len(batch.latents))
        if batch.domain is None or not self._experts:
            return [(self._general, list(clips))]
        domains = batch.domain.tolist()
        routes = [
            (score, [i for i in clips if domains[i] == index]) for index, score in self._experts.items()
        ]
        routes.append((self._general, [i for i in clips if domains[i] not in self._experts]))
        return [(score, rows) for score, rows in routes if rows]


def guided_x0(
    score: Score,
    noisy_BCTHW: Tensor,
    sigma: Tensor,
    batch: Batch,
    latents: Sequence[int],
    *,
    scale: Tensor,
    null_of: Sequence[int],
) -> Tensor:
    """x0_null + scale (x0_conditional - x0_null) of some clips, the conditional prediction of the others.

    scale: (B, ...), broadcasts against (B, C, T, H, W); where it is 1 the conditional prediction stays bit for bit.
    null_of: numbers of the clips whose null is asked for.
    """
    result = score(noisy_BCTHW, sigma, batch, latents, hears=True)
    rows = list(null_of)
    if not rows:
        return result
    null = score(noisy_BCTHW[rows], sigma[rows], batch.rows(rows), latents, hears=False)
    guided = result.clone()
    moved = null + scale[rows] * (result[rows] - null)
    guided[rows] = torch.where(scale[rows] == 1, result[rows], moved)
    return guided


def freeze(network: nn.Module) -> nn.Module:
    """A network that only judges."""
    return network.eval().requires_grad_(False)
