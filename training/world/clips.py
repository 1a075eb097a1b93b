"""Whole clips: a portrait, a spoken sentence with pauses, and the true mouth of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import librosa
import numpy as np

from .face import draw_face
from .identity import Identity, random_identity
from .motion import free_poses, spoken_poses
from .mouth import MouthShape
from .sentences import HELD_OUT, training_sentence
from .visemes import Phoneme, mouth_track
from .voices import random_voice, speak

FPS = 25
SAMPLE_RATE = 16000
Motion = Literal["free", "spoken"]


@dataclass(frozen=True)
class Clip:
    """A drawn clip: frames (F, H, W, 3) uint8, samples (S,) at 16 kHz in [-1, 1], mouth (F, 5) in [0, 1]."""

    frames: np.ndarray
    samples: np.ndarray
    mouth: np.ndarray


def random_speech(
    random: np.random.Generator, frames: int, *, held_out: bool, lead_seconds: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sentences with pauses of 0.3..1.5 s until the clip is full -> samples (S,) at 16 kHz, mouth (F, 5).

    A negative lead starts the clip in the middle of the first sentence.
    """
    total = frames * SAMPLE_RATE // FPS
    samples = np.zeros(total, np.float32)
    phonemes: list[Phoneme] = []
    voice = random_voice(random, held_out=held_out)
    at = random.uniform(0.1, 0.6) if lead_seconds is None else lead_seconds
    while at < frames / FPS:
        text = str(random.choice(HELD_OUT)) if held_out else training_sentence(random)
        speech = speak(text, voice)
        wave = librosa.resample(speech.samples, orig_sr=speech.sample_rate, target_sr=SAMPLE_RATE)
        first = round(at * SAMPLE_RATE)
        kept = wave[max(0, -first) : max(0, total - first)]
        samples[max(0, first) : max(0, first) + len(kept)] = kept
        phonemes += [Phoneme(p.name, p.start_seconds + at, p.end_seconds + at) for p in speech.phonemes]
        at += len(wave) / SAMPLE_RATE + random.uniform(0.3, 1.5)
    return samples, mouth_track(phonemes, frames, fps=FPS)


def draw_clip(
    who: Identity, mouth: np.ndarray, random: np.random.Generator, *, side: int, motion: Motion
) -> np.ndarray:
    """Animate one identity along a mouth track (F, 5) -> (F, H, W, 3) uint8."""
    if motion == "free":
        poses = free_poses(random, len(mouth), fps=FPS)
    else:
        poses = spoken_poses(random, mouth, fps=FPS)
    shapes = [MouthShape(*(float(v) for v in row)) for row in mouth]
    pictures = [draw_face(who, pose, shape, side=side) for pose, shape in zip(poses, shapes, strict=True)]
    return np.stack(pictures)


def random_clip(seed: int, frames: int, *, side: int, held_out: bool, motion: Motion = "free") -> Clip:
    """Draw, speak and animate one clip; held-out clips never share a seed, a sentence or a voice with others.

    The seed fixes face, words, voice and motion; espeak-ng itself repeats its timings to a few milliseconds only.
    """
    random = np.random.default_rng([seed, int(held_out)])
    who = random_identity(random)
    lead = None if random.random() < 0.8 else -random.uniform(0.3, 1.5)
    samples, mouth = random_speech(random, frames, held_out=held_out, lead_seconds=lead)
    return Clip(draw_clip(who, mouth, random, side=side, motion=motion), samples, mouth)
