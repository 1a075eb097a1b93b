"""Colours as eight-bit triples, and how they are darkened, mixed and drawn at random."""

from __future__ import annotations

import numpy as np

Colour = tuple[int, int, int]


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor < 1) or lighten (factor > 1) a colour."""
    red, green, blue = (int(min(255, max(0, channel * factor))) for channel in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Colour between two, share of the second in [0, 1]."""
    red, green, blue = (int(a * (1 - share) + b * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def pick(random: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours, each channel moved by up to 12."""
    base = np.asarray(colours[random.integers(len(colours))]) + random.integers(-12, 13, 3)
    red, green, blue = (int(channel) for channel in base.clip(0, 255))
    return red, green, blue
