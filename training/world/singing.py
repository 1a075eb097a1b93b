"""Songs: spoken sentences whose vowels are held at the notes of a scale, with timings that stay true.

A vowel is resynthesised by pitch-synchronous overlap and add (Moulines and Charpentier 1990): windows of two periods
are taken from its steady part and laid at the period of the note, so the throat stays and the pitch changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .visemes import Phoneme, visemes_of
from .voices import Speech, Voice, speak

_VOWELS = "aAeEiIoOuUV03QWYy&@"
_NAMED = {
    "AA": "a",
    "OH": "o",
    "OU": "u",
    "EH": "e",
    "IH": "i",
    "RR": "3",
    "NN": "n",
}  # a phoneme for each viseme
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
_HELD_SHARE = 0.75
_FADE_SECONDS = 0.006
_SHORTEST_SECONDS = 0.045  # a vowel that lasts less has no steady part


@dataclass(frozen=True)
class Note:
    """One held vowel of a song, in seconds from its start."""

    start_seconds: float
    end_seconds: float
    hertz: float


@dataclass(frozen=True)
class Song:
    """A sung sentence and the vowels that are held in it."""

    speech: Speech
    notes: list[Note]


def sing(text: str, voice: Voice, random: np.random.Generator) -> Song:
    """Sing a sentence: most vowels last 0.4 to 1.5 s, each on a note of one scale."""
    flat = speak(text, replace(voice, pitch_range=0, words_per_minute=min(voice.words_per_minute, 150)))
    rate, scale = flat.sample_rate, _SCALES[random.integers(len(_SCALES))]
    degree, root = int(random.integers(-1, 4)), 2 ** (random.uniform(-3, 3) / 12)
    pieces: list[np.ndarray] = []
    phonemes: list[Phoneme] = []
    notes: list[Note] = []
    at = 0.0
    for phoneme in flat.phonemes:
        piece = flat.samples[round(phoneme.start_seconds * rate) : round(phoneme.end_seconds * rate)]
        marks = _pitch_marks(piece, rate) if _is_held(phoneme, random) else None
        if marks is None:
            kept = [replace(phoneme, start_seconds=at, end_seconds=at + len(piece) / rate)]
        else:
            degree = int(np.clip(degree + random.integers(-2, 3), -3, 6))
            ratio = root * 2 ** ((scale[degree % len(scale)] + 12 * (degree // len(scale))) / 12)
            ratio = float(np.clip(ratio, 0.72, 1.75))
            source = len(piece)
            period = float(np.diff(marks).mean())
            piece = held_vowel(piece, marks, samples=round(random.uniform(0.4, 1.5) * rate), ratio=ratio,
                               rate=rate, glides=len(visemes_of(phoneme.name)) > 1)  # fmt: skip
            end = at + len(piece) / rate
            notes.append(Note(at, end, ratio * rate / period))
            kept = _held_phonemes(phoneme, at, end, glide_seconds=0.5 * source / rate)
        pieces.append(_faded(piece, rate))
        phonemes += kept
        at += len(piece) / rate
    samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return Song(Speech(samples.astype(np.float32), rate, phonemes), notes)


def _is_held(phoneme: Phoneme, random: np.random.Generator) -> bool:
    vowel = (
        phoneme.name[:1] in _VOWELS and phoneme.name[:1] != "" and not phoneme.name.startswith(("@L", "@-"))
    )
    long_enough = phoneme.end_seconds - phoneme.start_seconds >= _SHORTEST_SECONDS
    return vowel and long_enough and random.random() < _HELD_SHARE


def _held_phonemes(phoneme: Phoneme, start: float, end: float, *, glide_seconds: float) -> list[Phoneme]:
    """The vowel's first shape held, then its other shapes within the time that they took when spoken."""
    first, *others = visemes_of(phoneme.name)
    edges = np.linspace(end - glide_seconds if others else end, end, len(others) + 1)
    held = [Phoneme(_NAMED[first], start, float(edges[0]))]
    spans = zip(others, edges[:-1], edges[1:], strict=True)
    return held + [Phoneme(_NAMED[name], float(begin), float(stop)) for name, begin, stop in spans]


def _pitch_marks(piece: np.ndarray, rate: int) -> np.ndarray | None:
    """Samples of the pulses of a voiced sound, one per period; None where it has no clear pitch of 65 to 420 Hz."""
    middle = piece[len(piece) // 5 : -len(piece) // 5]
    low, high = rate // 420, rate // 65
    if len(middle) < low + 200:
        return None
    high = min(high, len(middle) - 64)
    centred = middle - middle.mean()
    energy = np.concatenate([[0.0], np.cumsum(centred.astype(np.float64) ** 2)])
    lags = np.arange(low, high)
    match = np.correlate(centred, centred, mode="full")[len(centred) - 1 :][low:high]
    count = len(centred)
    scale = np.sqrt(energy[count - lags] * (energy[count] - energy[lags])) + 1e-9
    likeness = match / scale
    if not len(likeness) or likeness.max() < 0.5:
        return None
    period = int(lags[np.flatnonzero(likeness > 0.93 * likeness.max())[0]])
    while period - low + 1 < len(likeness) and likeness[period - low + 1] > likeness[period - low]:
        period += 1
    start = int(np.argmax(piece[:period])) if len(piece) > period else 0
    marks = [start]
    while marks[-1] + 1.25 * period < len(piece):
        expected = marks[-1] + period
        reach = max(2, period // 8)
        window = piece[expected - reach : expected + reach + 1]
        marks.append(expected - reach + int(np.argmax(window)))
    return np.array(marks) if len(marks) >= 3 else None


def held_vowel(
    piece: np.ndarray, marks: np.ndarray, *, samples: int, ratio: float, rate: int, glides: bool
) -> np.ndarray:
    """A vowel (S,) stretched to a number of samples at a multiple of its pitch, with a little late vibrato.

    marks: its pulses. glides: a diphthong, held in its first part and ended as it was spoken.
    """
    length = len(piece)
    period = float(np.diff(marks).mean())
    first, last = (0.15 * length, 0.40 * length) if glides else (0.30 * length, 0.65 * length)
    grain = round(period)
    window = np.hanning(2 * grain + 1)
    padded = np.pad(piece, (2 * grain, 2 * grain))
    out = np.zeros(samples + 4 * grain)
    at = 0.0
    while at < samples:
        source = _source_position(at, samples, length, first, last)
        mark = int(marks[np.abs(marks - source).argmin()]) + 2 * grain
        place = round(at) + 2 * grain
        out[place - grain : place + grain + 1] += padded[mark - grain : mark + grain + 1] * window
        seconds = at / rate
        vibrato = 0.25 * min(1.0, max(0.0, seconds - 0.25) / 0.3) * np.sin(2 * np.pi * 5.5 * seconds)
        at += period / (ratio * 2 ** (vibrato / 12))
    return out[2 * grain : 2 * grain + samples].astype(np.float32)


def _source_position(at: float, samples: int, length: int, first: float, last: float) -> float:
    """Where in the spoken vowel a moment of the held one comes from: its beginning, to and fro, its end."""
    if at < first:
        return at
    ending = length - last
    if at > samples - ending:
        return length - (samples - at)
    span = last - first
    phase = ((at - first) / span) % 2
    return first + span * (phase if phase < 1 else 2 - phase)


def _faded(piece: np.ndarray, rate: int) -> np.ndarray:
    """Both ends led to zero over some milliseconds, so that pieces join without a click."""
    fade = min(round(_FADE_SECONDS * rate), len(piece) // 4)
    if fade < 1:
        return piece
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    result = piece.copy()
    result[:fade] *= ramp
    result[-fade:] *= ramp[::-1]
    return result
