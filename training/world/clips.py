"""Whole clips: a portrait, what it says or sings, and the true mouth, pose and mouth box of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import librosa
import numpy as np

from .acting import DOMAINS, free_acting, loudness, spoken_acting
from .person import Person, random_person
from .portrait import Portrait
from .pose import Pose
from .rare import HELD_OUT_RARE, rare_sentence
from .sentences import HELD_OUT, training_sentence
from .singing import sing
from .visemes import MouthShape, Phoneme, mouth_track
from .voices import Speech, Voice, random_voice, speak

FPS = 25
SAMPLE_RATE = 16000
Motion = Literal["free", "spoken"]
_WORLD = 1  # of every clip's generator: another number, and all clips are other ones


@dataclass(frozen=True)
class Clip:
    """A drawn clip: frames (F, H, W, 3) uint8, samples (S,) at 16 kHz in [-1, 1], mouth (F, 5) in [0, 1].

    pose: (F, P) float64, columns pose.POSE_NAMES. place: (F, 4) float32, the box of the mouth at its widest in that
    pose: centre x, y and half width, half height, as fractions of the side. domain: what the clip is, one of DOMAINS.
    """

    frames: np.ndarray
    samples: np.ndarray
    mouth: np.ndarray
    pose: np.ndarray
    place: np.ndarray
    domain: str


def random_speech(
    random: np.random.Generator, frames: int, *, held_out: bool, lead_seconds: float | None = None,
    domain: str = "speaking",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Sentences with pauses of 0.3..1.5 s until the clip is full -> samples (S,) at 16 kHz, mouth (F, 5).

    A negative lead starts the clip in the middle of the first sentence.
    """
    total = frames * SAMPLE_RATE // FPS
    samples = np.zeros(total, np.float32)
    phonemes: list[Phoneme] = []
    voice = random_voice(random, held_out=held_out)
    at = random.uniform(0.1, 0.6) if lead_seconds is None else lead_seconds
    while at < frames / FPS:
        speech = _utterance(random, voice, domain, held_out=held_out)
        wave = librosa.resample(speech.samples, orig_sr=speech.sample_rate, target_sr=SAMPLE_RATE)
        first = round(at * SAMPLE_RATE)
        kept = wave[max(0, -first) : max(0, total - first)]
        samples[max(0, first) : max(0, first) + len(kept)] = kept
        phonemes += [Phoneme(p.name, p.start_seconds + at, p.end_seconds + at) for p in speech.phonemes]
        at += len(wave) / SAMPLE_RATE + random.uniform(0.3, 1.5)
    return samples, mouth_track(phonemes, frames, fps=FPS)


def _utterance(random: np.random.Generator, voice: Voice, domain: str, *, held_out: bool) -> Speech:
    """One sentence of a domain, spoken or sung."""
    if domain == "rare":
        return speak(
            str(random.choice(HELD_OUT_RARE)) if held_out else rare_sentence(random, voice.name), voice
        )
    text = str(random.choice(HELD_OUT)) if held_out else training_sentence(random)
    return sing(text, voice, random).speech if domain == "singing" else speak(text, voice)


def random_clip(
    seed: int, frames: int, *, side: int, held_out: bool, motion: Motion = "free",
    domains: tuple[str, ...] = ("speaking",),
) -> Clip:  # fmt: skip
    """Draw, speak and animate one clip; held-out clips never share a seed, a sentence or a voice with others.

    The seed fixes face, words, voice, motion and which of the domains the clip belongs to; espeak-ng itself repeats its
    timings to a few milliseconds only.
    """
    check_domains(domains)
    random = np.random.default_rng([seed, int(held_out), _WORLD])
    portrait = Portrait(random_person(random), side=side)  # first, as in identity_of
    domain = str(random.choice(domains))
    lead = None if random.random() < 0.8 else -random.uniform(0.3, 1.5)
    samples, mouth = random_speech(random, frames, held_out=held_out, lead_seconds=lead, domain=domain)
    if motion == "free":
        pose = free_acting(random, frames, domain, fps=FPS)
    else:
        pose = spoken_acting(random, mouth, loudness(samples, frames), domain, fps=FPS)
    place = np.array([portrait.place(Pose(*row)) for row in pose.tolist()], np.float32)
    return Clip(_pictures(portrait, mouth, pose), samples, mouth, pose, place, domain)


def _pictures(portrait: Portrait, mouth: np.ndarray, pose: np.ndarray) -> np.ndarray:
    rows = zip(pose.tolist(), mouth.tolist(), strict=True)
    return np.stack([portrait.draw(Pose(*where), MouthShape(*shape)) for where, shape in rows])


def dubbed_frames(seed: int, pose: np.ndarray, dub: np.ndarray, *, side: int, held_out: bool) -> np.ndarray:
    """The clip of a seed with another mouth: the same face, head and eyes -> (F, H, W, 3) uint8.

    pose: (F, P) of random_clip(seed, ...); dub: (F, 5), the mouth that is drawn instead of its own.
    """
    return _pictures(Portrait(identity_of(seed, held_out=held_out), side=side), dub, pose)


def identity_of(seed: int, *, held_out: bool) -> Person:
    """Who a clip shows."""
    return random_person(np.random.default_rng([seed, int(held_out), _WORLD]))


def check_domains(domains: tuple[str, ...]) -> None:
    """Raise ValueError for domains that do not exist, and for none."""
    unknown = sorted(set(domains) - set(DOMAINS))
    if unknown or not domains:
        raise ValueError(f"domains are {list(domains)}; expected some of {', '.join(DOMAINS)}")
