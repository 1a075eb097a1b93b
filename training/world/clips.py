"""Whole clips: a portrait, a spoken sentence with pauses, and the true mouth of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import librosa
import numpy as np

from .face import Pose, draw_face
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


def draw_clip(who: Identity, mouth: np.ndarray, poses: list[Pose], *, side: int) -> np.ndarray:
    """Animate one identity along a mouth track (F, 5) and its poses -> (F, H, W, 3) uint8."""
    shapes = [MouthShape(*(float(v) for v in row)) for row in mouth]
    pictures = [draw_face(who, pose, shape, side=side) for pose, shape in zip(poses, shapes, strict=True)]
    return np.stack(pictures)


def random_clip(seed: int, frames: int, *, side: int, held_out: bool, motion: Motion = "free") -> Clip:
    """Draw, speak and animate one clip; held-out clips never share a seed, a sentence or a voice with others.

    The seed fixes face, words, voice and motion; espeak-ng itself repeats its timings to a few milliseconds only.
    """
    who, samples, mouth, random = _cast(seed, frames, held_out=held_out)
    poses = _poses(random, mouth, motion)
    return Clip(draw_clip(who, mouth, poses, side=side), samples, mouth)


def dubbed_frames(
    seed: int, mouth: np.ndarray, dub: np.ndarray, *, side: int, held_out: bool, motion: Motion = "free"
) -> np.ndarray:
    """The clip of a seed with another mouth: the same face, head and eyes -> (F, H, W, 3) uint8.

    mouth: (F, 5) of random_clip(seed, ...), which its head and eyes follow; dub: (F, 5) that is drawn instead.
    """
    who, _, _, random = _cast(seed, len(mouth), held_out=held_out)
    return draw_clip(who, dub, _poses(random, mouth, motion), side=side)


def _cast(
    seed: int, frames: int, *, held_out: bool
) -> tuple[Identity, np.ndarray, np.ndarray, np.random.Generator]:
    """Who speaks, what, with which mouth, and the generator that their motion is drawn from."""
    random = np.random.default_rng([seed, int(held_out)])
    who = random_identity(random)
    lead = None if random.random() < 0.8 else -random.uniform(0.3, 1.5)
    samples, mouth = random_speech(random, frames, held_out=held_out, lead_seconds=lead)
    return who, samples, mouth, random


def _poses(random: np.random.Generator, mouth: np.ndarray, motion: Motion) -> list[Pose]:
    if motion == "free":
        return free_poses(random, len(mouth), fps=FPS)
    return spoken_poses(random, mouth, fps=FPS)
