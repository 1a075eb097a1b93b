"""Measures of pictures: nearness to the truth, sharpness, whose face it is, and what lies behind it."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..streaming.colour import lab_of_rgb

_HEAD = (slice(0.04, 0.58), slice(0.15, 0.85))  # rows and columns of hair, brow and eyes, as shares; no mouth
_BESIDE = 0.06  # strips at both sides, down to the shoulders, that hair and heads hardly ever reach
_SHOULDERS = 0.50
_PLACE_WEIGHT = 0.5  # a thing moved by half a picture counts as a quarter of black to white
_DIRECTIONS = 24


def psnr_of(frames: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 pictures, or of parts of them, of one shape."""
    error = ((frames.astype(np.float64) - truth) ** 2).mean()
    return -10 * math.log10(max(error / 255**2, 1e-12))


def sharpness(frames: np.ndarray, like: np.ndarray) -> float:
    """Variance of the Laplacian of frames (F, H, W, 3) uint8 over that of others: 1 as sharp, less is softer."""
    return _laplacian_variance(frames) / max(_laplacian_variance(like), 1e-9)


def _laplacian_variance(frames: np.ndarray) -> float:
    """Mean over frames of the variance of each one's five-point Laplacian of brightness."""
    grey = frames.astype(np.float32).mean(axis=-1)
    middle = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return float((around - 4 * middle).var(axis=(1, 2)).mean())


def identity_gaps(frames: np.ndarray, portrait: np.ndarray, *, every: int = 1) -> np.ndarray:
    """How far the upper heads of frames (F, H, W, 3) are from the portrait's (H, W, 3): (F / every,), about [0, 0.5].

    Sliced Wasserstein distance (Rabin et al. 2011) of their pixels as points of colour and place: what colours there
    are, how much of each, and about where. A head that sways or turns moves its points a little; another person's
    hair, skin or glasses change them all.
    """
    wanted = _projected(portrait)
    return np.array([np.abs(_projected(frame) - wanted).mean() for frame in frames[::every]])


def _projected(picture: np.ndarray) -> np.ndarray:
    """The head's pixels along fixed random directions, each in order: (pixels, directions)."""
    side = picture.shape[0]
    area = tuple(slice(round(s.start * side), round(s.stop * side)) for s in _HEAD)
    head = picture[area].astype(np.float32) / 255
    y, x = np.mgrid[: head.shape[0], : head.shape[1]].astype(np.float32) * (_PLACE_WEIGHT / side)
    points = np.concatenate([head, y[..., None], x[..., None]], axis=-1).reshape(-1, 5)
    directions = np.random.default_rng(0).standard_normal((5, _DIRECTIONS)).astype(np.float32)
    return np.sort(points @ (directions / np.linalg.norm(directions, axis=0)), axis=0)


def background_gaps(frames: np.ndarray, portrait: np.ndarray) -> np.ndarray:
    """Mean absolute difference to the portrait beside the head, per frame (F,), in [0, 1]."""
    gap = np.abs(_beside(frames).astype(np.float32) - _beside(portrait[None])) / 255
    return gap.mean(axis=(1, 2, 3))


def colour_gap(frames: np.ndarray, portrait: np.ndarray) -> float:
    """Distance in CIE Lab of the mean colour beside the head to the portrait's: 0 is the same, about 2 is seen.

    The mean over frames (F, H, W, 3) of each one's distance (CIE 1976). Blur changes no mean colour; a stream that
    grows brighter or yellow does.
    """
    mean, wanted = (_mean_lab(_beside(pictures)) for pictures in (frames, portrait[None]))
    return float(np.linalg.norm(mean - wanted, axis=1).mean())


def _mean_lab(pictures: np.ndarray) -> np.ndarray:
    """(F, H, W, 3) uint8 -> the mean of each one's pixels in Lab, (F, 3)."""
    unit = torch.from_numpy(pictures.astype(np.float32) / 255).movedim(-1, 1)
    return lab_of_rgb(unit).mean(dim=(2, 3)).numpy()


def _beside(pictures: np.ndarray) -> np.ndarray:
    """The strips at both sides of pictures (F, H, W, 3), down to the shoulders."""
    side = pictures.shape[1]
    strip, bottom = max(1, round(_BESIDE * side)), round(_SHOULDERS * side)
    return np.concatenate([pictures[:, :bottom, :strip], pictures[:, :bottom, -strip:]], axis=2)
