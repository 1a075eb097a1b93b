"""What a waveform must be before anything listens to it, each failure in one sentence."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

log = logging.getLogger(__name__)

SILENCE_DBFS = -80.0  # below this peak nobody hears anything
BLOCK_SAMPLES = 1 << 20


def check_waveform(waveform: Tensor | None, sample_rate: int) -> Tensor:
    """The clip as (C, S) float32, a view where possible.

    waveform: (1, C, S) as ComfyUI's AUDIO carries it, or (C, S), or (S,); any level. Silence passes with one
    warning in the log. Raises ValueError for no audio, no samples, a batch, NaN or infinite samples.
    """
    if waveform is None:
        raise ValueError(
            "no audio: the AUDIO input is empty; connect a voice (a video without a track has none)"
        )
    if sample_rate <= 0:
        raise ValueError(
            f"the audio's sample rate is {sample_rate}; expected a positive number of samples per second"
        )
    clip_CS = _as_channels(waveform)
    if clip_CS.shape[-1] == 0 or clip_CS.shape[0] == 0:
        raise ValueError(
            f"the audio has shape {tuple(waveform.shape)}: no samples; record or load at least one"
        )
    peak = peak_level(clip_CS, sample_rate)
    if decibels(peak) < SILENCE_DBFS:
        log.warning("the audio is silent (peak %.0f dBFS): the mouth will stay closed", decibels(peak))
    return clip_CS


def peak_level(clip_CS: Tensor, sample_rate: int) -> float:
    """Largest |sample|, read in blocks. Raises ValueError at the first block with NaN or infinity."""
    peak = 0.0
    for start in range(0, clip_CS.shape[-1], BLOCK_SAMPLES):
        level = float(clip_CS[:, start : start + BLOCK_SAMPLES].abs().amax())
        if not math.isfinite(level):
            bad = ~torch.isfinite(clip_CS[:, start : start + BLOCK_SAMPLES]).all(0)
            second = (start + int(bad.nonzero()[0, 0])) / sample_rate
            raise ValueError(
                f"the audio holds NaN or infinite samples, the first at {second:.3f} s; expected finite numbers: "
                "re-export the file or check the node that made it"
            )
        peak = max(peak, level)
    return peak


def decibels(level: float) -> float:
    """Amplitude -> dB relative to full scale (1.0); silence gives -200."""
    return 20.0 * math.log10(max(level, 1e-10))


def _as_channels(waveform: Tensor) -> Tensor:
    if waveform.ndim == 1:
        waveform = waveform[None]
    if waveform.ndim == 3:
        if waveform.shape[0] != 1:
            raise ValueError(
                f"got a batch of {waveform.shape[0]} waveforms, expected one; pass them as a list, or pick one"
            )
        waveform = waveform[0]
    if waveform.ndim != 2:
        raise ValueError(f"got a waveform of shape {tuple(waveform.shape)}; expected (1, channels, samples)")
    return waveform if waveform.dtype == torch.float32 else waveform.float()
