"""Phoneme timings -> mouth shapes at the video frame rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOUTH_NAMES = ("open", "width", "round", "teeth", "tongue")

# viseme: (open, width, round, teeth, tongue), all in [0, 1]
VISEMES: dict[str, tuple[float, float, float, float, float]] = {
    "rest": (0.00, 0.45, 0.00, 0.0, 0.0),
    "PP": (0.00, 0.42, 0.10, 0.0, 0.0),
    "FF": (0.14, 0.50, 0.00, 1.0, 0.0),
    "TH": (0.26, 0.50, 0.00, 0.6, 0.9),
    "DD": (0.26, 0.55, 0.00, 0.8, 0.4),
    "KK": (0.34, 0.50, 0.00, 0.5, 0.3),
    "CH": (0.26, 0.25, 0.55, 0.9, 0.0),
    "SS": (0.20, 0.65, 0.00, 1.0, 0.0),
    "NN": (0.32, 0.50, 0.00, 0.6, 0.8),
    "RR": (0.30, 0.35, 0.45, 0.4, 0.2),
    "AA": (1.00, 0.55, 0.00, 0.5, 0.5),
    "EH": (0.66, 0.75, 0.00, 0.7, 0.4),
    "IH": (0.42, 0.90, 0.00, 0.9, 0.2),
    "OH": (0.78, 0.20, 0.65, 0.1, 0.3),
    "OU": (0.42, 0.05, 1.00, 0.0, 0.0),
}

# espeak mnemonic prefix -> visemes, spread evenly over the phoneme; the longest matching prefix wins.
PHONEMES: dict[str, tuple[str, ...]] = {
    "p": ("PP",), "b": ("PP",), "m": ("PP",), "f": ("FF",), "v": ("FF",), "T": ("TH",), "D": ("TH",),
    "t": ("DD",), "d": ("DD",), "n": ("NN",), "l": ("NN",), "k": ("KK",), "g": ("KK",), "N": ("KK",),
    "x": ("KK",), "h": ("KK",), "tS": ("CH",), "dZ": ("CH",), "S": ("CH",), "Z": ("CH",), "C": ("CH",),
    "s": ("SS",), "z": ("SS",), "ts": ("SS",), "r": ("RR",), "3": ("RR", "RR"), "R": ("RR",),
    "w": ("OU",), "j": ("IH",), "a": ("AA",), "A": ("AA",), "aI": ("AA", "IH"), "aU": ("AA", "OU"),
    "V": ("AA",), "0": ("OH",), "O": ("OH",), "o": ("OH",), "oU": ("OH", "OU"), "OI": ("OH", "IH"),
    "U": ("OU",), "u": ("OU",), "y": ("OU",), "Y": ("OU",), "e": ("EH",), "E": ("EH",),
    "eI": ("EH", "IH"), "e@": ("EH",), "W": ("EH",), "I": ("IH",), "i": ("IH",), "i@": ("IH", "EH"),
    "@": ("EH",), "@U": ("EH", "OU"), "@L": ("NN",), "&": ("EH",), "B": ("PP",), "Q": ("OH",),
    "l^": ("IH",), "n^": ("NN",), "J": ("IH",), "c": ("KK",), "q": ("KK",), "?": ("rest",), "_": ("rest",),
}  # fmt: skip

_GRID_HZ = 200  # resolution of the shape track before it is smoothed and sampled
_SMOOTHING_SECONDS = 0.10


@dataclass(frozen=True)
class MouthShape:
    """Mouth parameters in [0, 1], the columns of MOUTH_NAMES."""

    open: float
    width: float
    round: float
    teeth: float
    tongue: float


@dataclass(frozen=True)
class Phoneme:
    """One phoneme of a spoken sentence, times in seconds from its start."""

    name: str
    start_seconds: float
    end_seconds: float


def visemes_of(phoneme: str) -> tuple[str, ...]:
    """Visemes of one espeak mnemonic; unknown names fall back to their longest known prefix, then to rest."""
    for length in range(len(phoneme), 0, -1):
        if phoneme[:length] in PHONEMES:
            return PHONEMES[phoneme[:length]]
    return ("rest",)


def mouth_track(phonemes: list[Phoneme], frames: int, *, fps: int = 25) -> np.ndarray:
    """Phoneme timings -> (F, 5) float32 in [0, 1], columns MOUTH_NAMES, sampled at the middle of each frame."""
    samples = int(frames / fps * _GRID_HZ) + _GRID_HZ
    grid = np.tile(np.asarray(VISEMES["rest"], np.float32), (samples, 1))
    for phoneme in phonemes:
        shapes = visemes_of(phoneme.name)
        edges = np.linspace(phoneme.start_seconds, phoneme.end_seconds, len(shapes) + 1) * _GRID_HZ
        for shape, first, last in zip(shapes, edges[:-1], edges[1:], strict=True):
            grid[max(0, round(first)) : max(0, round(last))] = VISEMES[shape]
    taps = int(_SMOOTHING_SECONDS * _GRID_HZ) | 1
    window = np.hanning(taps + 2)[1:-1]
    window /= window.sum()
    padded = np.pad(grid, ((taps // 2, taps // 2), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, i], window, mode="valid") for i in range(grid.shape[1])], axis=1)
    at = ((np.arange(frames) + 0.5) / fps * _GRID_HZ).round().astype(int)
    return smooth[at].astype(np.float32)
