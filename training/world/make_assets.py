"""Portraits and sentences to try the Mini with; none of them is in its training data.

Command: python -m talkstream.training.world.make_assets [assets]
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path

import numpy as np
from PIL import Image

from .make_portraits import portrait_picture
from .voices import Voice, speak

# name: seed of the person; held-out seeds, as in random_clip(..., held_out=True)
PORTRAITS = {"ruby": 90_141, "hazel": 90_145, "omar": 90_102, "theo": 90_146, "nina": 90_176, "iris": 90_195}
SENTENCES = {
    "hello": (
        "Hello! I am a small drawing, and I can speak. Please give me your voice, and watch my mouth move.",
        Voice("en-us+f4", 150, 55, 60),
    ),
    "weather": (
        "The weather today will be cloudy, with showers over the hills... and tomorrow, a bit of sunshine.",
        Voice("gmw/en+m7", 150, 40, 60),
    ),
}


def save_wave(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Mono samples in [-1, 1] -> 16-bit WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw portraits and speak sentences.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parents[2] / "assets")
    folder = parser.parse_args().folder
    for name in ("portraits", "sentences"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, seed in PORTRAITS.items():
        picture = Image.fromarray(portrait_picture(seed))
        picture.save(folder / "portraits" / f"{name}.png", optimize=True)
    for name, (text, voice) in SENTENCES.items():
        speech = speak(text, voice)
        quiet = np.zeros(speech.sample_rate * 3 // 10, np.float32)
        samples = np.concatenate([quiet, speech.samples, quiet])
        save_wave(folder / "sentences" / f"{name}.wav", samples, speech.sample_rate)


if __name__ == "__main__":
    main()
