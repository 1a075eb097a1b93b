"""Making clean synthetic speech sound like recordings: gain, equalisation, reverberation, noise, other throats."""

from __future__ import annotations

import numpy as np


def augment(samples: np.ndarray, random: np.random.Generator, *, sample_rate: int = 16000) -> np.ndarray:
    """(S,) in [-1, 1] -> (S,) float32, the same words in the same time, another room, microphone and level.

    Digital silence becomes the noise of a room.
    """
    wave = samples.astype(np.float32)
    if not wave.any():
        return _coloured_noise(random, len(wave)) * np.float32(10 ** (random.uniform(-75, -25) / 20))
    if random.random() < 0.7:
        wave = equalise(wave, random, sample_rate=sample_rate)
    if random.random() < 0.4:
        wave = reverberate(wave, random, sample_rate=sample_rate)
    if random.random() < 0.5:
        wave = wave * slow_gain(random, len(wave), sample_rate=sample_rate)
    if random.random() < 0.7:
        wave = add_noise_floor(wave, random)
    peak = float(np.abs(wave).max())
    level = 10 ** (random.uniform(-24, -1) / 20)
    return (wave * (level / peak) if peak > 0 else wave).astype(np.float32)


def equalise(wave: np.ndarray, random: np.random.Generator, *, sample_rate: int) -> np.ndarray:
    """Random smooth tone curve of up to 12 dB, at times cut to a telephone's band."""
    spectrum = np.fft.rfft(wave)
    hertz = np.fft.rfftfreq(len(wave), 1 / sample_rate)
    knots = np.geomspace(60, sample_rate / 2, 7)
    decibels = np.interp(np.log(hertz + 1), np.log(knots + 1), random.uniform(-12, 12, len(knots)))
    if random.random() < 0.2:
        decibels = decibels - 40.0 * ((hertz < 250) | (hertz > 3600))
    return np.fft.irfft(spectrum * 10 ** (decibels / 20), len(wave)).astype(np.float32)


def reverberate(wave: np.ndarray, random: np.random.Generator, *, sample_rate: int) -> np.ndarray:
    """Exponentially decaying noise tail behind the direct sound."""
    seconds = random.uniform(0.08, 0.45)
    length = int(seconds * sample_rate)
    tail = random.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail *= random.uniform(0.1, 0.6) / np.sqrt((tail**2).sum())
    tail[0] += 1.0
    size = len(wave) + length
    return np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(tail, size), size)[: len(wave)].astype(
        np.float32
    )


def slow_gain(random: np.random.Generator, length: int, *, sample_rate: int) -> np.ndarray:
    """Gain curve (S,) that wanders by up to 6 dB every half second, as speakers lean in and out."""
    knots = random.uniform(-6, 6, 2 + 2 * length // sample_rate)
    decibels = np.interp(np.linspace(0, len(knots) - 1, length), np.arange(len(knots)), knots)
    return (10 ** (decibels / 20)).astype(np.float32)


def add_noise_floor(wave: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Steady coloured noise 8 to 45 dB below the speech."""
    speech_power = float((wave**2).mean())
    ratio = 10 ** (-random.uniform(8, 45) / 10)
    return wave + _coloured_noise(random, len(wave)) * np.float32(np.sqrt(speech_power * ratio))


def _coloured_noise(random: np.random.Generator, length: int) -> np.ndarray:
    """(S,) float32 of unit power, between white and pink."""
    spectrum = np.fft.rfft(random.standard_normal(length))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** random.uniform(0.0, 1.0)
    noise = np.fft.irfft(spectrum, length)
    return (noise / np.sqrt((noise**2).mean())).astype(np.float32)


def warp_mel(mel_NMA: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mel frames (N, M, bins) of N clips, each with its mel axis stretched and moved at random.

    Other vocal tract lengths, so that few voices stand for many (vocal tract length perturbation, Jaitly and Hinton
    2013, on a mel axis): factors of e^-0.16 to e^0.16, shifts of up to 1.5 bins, linear between bins.
    """
    clips, _, bins = mel_NMA.shape
    factor = np.exp(random.uniform(-0.16, 0.16, (clips, 1)))
    shift = random.uniform(-1.5, 1.5, (clips, 1))
    at = np.clip(np.arange(bins)[None] * factor + shift, 0, bins - 1.001)
    low = at.astype(int)
    share = at - low
    mixing = np.zeros((clips, bins, bins), mel_NMA.dtype)
    clip, bin_ = np.arange(clips)[:, None], np.arange(bins)[None]
    mixing[clip, low, bin_] = 1 - share
    mixing[clip, low + 1, bin_] = share
    return mel_NMA @ mixing


def tilt_mel(mel_NMA: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mel frames (N, M, bins), each clip with a smooth gain over its bins: other voices' colour, about a quarter."""
    clips, _, bins = mel_NMA.shape
    knots = random.normal(0, 0.25, (clips, 6))
    at = np.linspace(0, 5, bins)
    gain = np.exp([np.interp(at, np.arange(6), row) for row in knots])
    return mel_NMA * gain[:, None].astype(mel_NMA.dtype)


def mask_mel(mel_NMA: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mel frames (N, M, bins) with up to two bands of 6 bins and three spans of 8 frames of each clip silenced.

    SpecAugment (Park et al. 2019) without its time warp.
    """
    masked = mel_NMA.copy()
    _, frames, bins = mel_NMA.shape
    for clip in masked:
        for _ in range(2):
            first = random.integers(bins - 6)
            clip[:, first : first + random.integers(7)] = 0
        for _ in range(3):
            first = random.integers(frames - 8)
            clip[first : first + random.integers(9)] = 0
    return masked
