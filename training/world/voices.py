"""Speech with phoneme timings from libespeak-ng, called in process."""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import cache

import numpy as np

from .visemes import Phoneme

_OUTPUT_RETRIEVAL, _PHONEME_EVENTS, _UTF8, _EVENT_END, _EVENT_PHONEME = 1, 1, 1, 0, 7
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4

_ACCENTS = ("en-us", "en-us", "gmw/en", "en-gb-x-rp", "en-gb-scotland", "en-029", "es", "it", "de", "fr")
_VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m8", "f1", "f2", "f3", "f5", "Alex", "Alicia", "Annie",
             "Denis", "Diogo", "Gene", "Lee", "Marco", "Mario", "Michael", "adam", "anika", "antonio",
             "belinda", "david", "edward", "iven", "john", "linda", "max", "steph", "travis", "victor")  # fmt: skip
_HELD_OUT_VARIANTS = ("m7", "f4", "Andrea", "Henrique", "pablo", "caleb", "miguel", "steph2")


@dataclass(frozen=True)
class Voice:
    """One way of speaking: espeak voice and variant, words a minute, pitch and pitch range in [0, 100]."""

    name: str
    words_per_minute: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Speech:
    """A spoken sentence: mono float32 samples in [-1, 1], their rate, and the phonemes in time."""

    samples: np.ndarray
    sample_rate: int
    phonemes: list[Phoneme]


class _Event(ctypes.Structure):
    class _Id(ctypes.Union):
        _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def random_voice(random: np.random.Generator, *, held_out: bool) -> Voice:
    """Draw a voice; held-out voices use variants that training never hears."""
    variants = _HELD_OUT_VARIANTS if held_out else _VARIANTS
    accents = _ACCENTS[:6] if held_out else _ACCENTS
    return Voice(
        f"{random.choice(accents)}+{random.choice(variants)}",
        int(random.integers(120, 200)),
        int(random.integers(20, 86)),
        int(random.integers(30, 80)),
    )


def is_available() -> bool:
    """True where libespeak-ng is installed."""
    return ctypes.util.find_library("espeak-ng") is not None


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    """The initialised library and its sample rate; initialising twice in one process hangs, hence the cache."""
    path = ctypes.util.find_library("espeak-ng")
    if path is None:
        raise OSError("libespeak-ng is not installed; install espeak-ng (for example: apt install espeak-ng)")
    library = ctypes.CDLL(path)
    rate = library.espeak_Initialize(_OUTPUT_RETRIEVAL, 0, None, _PHONEME_EVENTS)
    if rate <= 0:
        raise OSError(
            f"espeak_Initialize returned {rate}; expected a sample rate: its voice files may be missing"
        )
    return library, rate


def speak(text: str, voice: Voice) -> Speech:
    """Speak one sentence. Raises ValueError where espeak-ng does not know the voice."""
    library, rate = _library()
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
        raise ValueError(f"espeak-ng has no voice {voice.name!r}; see `espeak-ng --voices`")
    for parameter, value in (
        (_RATE, voice.words_per_minute),
        (_PITCH, voice.pitch),
        (_RANGE, voice.pitch_range),
    ):
        library.espeak_SetParameter(parameter, value, 0)
    pieces: list[np.ndarray] = []
    starts: list[tuple[str, float]] = []

    def receive(wave: ctypes.Array, count: int, event: ctypes.Array) -> int:
        if wave and count > 0:
            pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while event[index].type != _EVENT_END:
            if event[index].type == _EVENT_PHONEME:
                starts.append(
                    (event[index].id.string.decode(errors="replace"), event[index].audio_position / 1000)
                )
            index += 1
        return 0

    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.concatenate(pieces).astype(np.float32) / 32768 if pieces else np.zeros(0, np.float32)
    ends = [start for _, start in starts[1:]] + [len(samples) / rate]
    phonemes = [Phoneme(name, start, end) for (name, start), end in zip(starts, ends, strict=True)]
    return Speech(samples, rate, phonemes)
