"""Captions of clips as a teacher reads them: words of a small closed vocabulary, each a fixed random direction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .world.acting import DOMAINS

CAPTIONS = {
    "speaking": ("person", "speaking", "forward"),
    "singing": ("person", "singing", "forward"),
    "profile": ("person", "speaking", "sideways"),
    "rare": ("person", "speaking", "rare-sounds"),
}
"""What is said of a clip, by its domain; all of one length, so that a batch is one tensor."""


class Captions:
    """Text rows of captions. A student's null text is a row of zeros; so is every row of a caption that is left out."""

    def __init__(self, text_dim: int, *, seed: int = 0) -> None:
        """text_dim: width of a row. Words are drawn in the order of the alphabet: a new one moves those behind it."""
        generator = torch.Generator().manual_seed(seed)
        words = sorted({word for caption in CAPTIONS.values() for word in caption})
        self._words = {word: F.normalize(torch.randn(text_dim, generator=generator), dim=0) for word in words}

    def rows(self, words: tuple[str, ...]) -> Tensor:
        """(M, text_dim), one unit vector per word. Raises ValueError for a word that is not in the vocabulary."""
        unknown = sorted(set(words) - set(self._words))
        if unknown:
            raise ValueError(f"captions know no word {unknown}; they know {sorted(self._words)}")
        return torch.stack([self._words[word] for word in words])

    def of(self, domain_B: Tensor | None, clips: int) -> Tensor:
        """Captions of clips of these domains, (B, M, text_dim); clips of no known domain speak."""
        table = torch.stack([self.rows(CAPTIONS[domain]) for domain in DOMAINS])
        if domain_B is None:
            return table[:1].expand(clips, -1, -1)
        return table[domain_B.cpu()]
