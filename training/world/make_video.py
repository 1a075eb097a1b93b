"""A video to try lip sync with: a drawn person says something in front of a wall, in a video of 320x240.

Its person is drawn 4/3 as high as wide: lip sync sees faces through a 3:4 window that is squashed into a square, and
the Mini's training portraits are square. The face's box for Track Face is FACE_BOX.

Command: python -m talkstream.training.world.make_video [assets]
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ...media.muxer import VideoWriter
from .colours import shade
from .face import draw_face
from .identity import Identity, random_identity
from .make_assets import PORTRAITS, SENTENCES
from .motion import spoken_poses
from .visemes import MouthShape, mouth_track
from .voices import speak

WIDTH, HEIGHT, FPS, FRAMES = 320, 240, 30, 120
PERSON = (85, 40, 150, 200)  # x, y, width, height
FACE_BOX = (75, 39, 171, 154)  # the box whose aligned crop shows exactly PERSON
WHO, SAYS = "theo", "weather"
_DRAWN_SIDE = 300
_QUALITY = 21


def wall(who: Identity) -> Image.Image:
    """What stands still behind the person: a window, a picture, a shelf."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), who.background)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((14, 30, 72, 112), fill=shade(who.background, 0.62))
    draw.rectangle((18, 34, 68, 108), fill=(176, 214, 236))
    draw.line((43, 34, 43, 108), fill=shade(who.background, 0.62), width=3)
    draw.line((18, 71, 68, 71), fill=shade(who.background, 0.62), width=3)
    draw.rectangle((252, 40, 306, 84), fill=(120, 84, 60))
    draw.rectangle((257, 45, 301, 79), fill=(226, 208, 152))
    draw.polygon([(257, 79), (274, 56), (288, 72), (294, 64), (301, 79)], fill=(110, 150, 104))
    draw.rectangle((244, 138, 314, 144), fill=(120, 84, 60))
    for place, colour in enumerate(((170, 62, 58), (66, 104, 150), (216, 172, 74), (88, 128, 92))):
        draw.rectangle((250 + 14 * place, 108 + 4 * (place % 2), 260 + 14 * place, 137), fill=colour)
    return picture


def drawn_frames(who: Identity, mouth: np.ndarray) -> list[np.ndarray]:
    """(H, W, 3) uint8 for each row of a mouth track (F, 5)."""
    x, y, width, height = PERSON
    behind, frames = wall(who), []
    for pose, row in zip(spoken_poses(np.random.default_rng(7), mouth, fps=FPS), mouth, strict=True):
        person = Image.fromarray(draw_face(who, pose, MouthShape(*map(float, row)), side=_DRAWN_SIDE))
        frame = behind.copy()
        frame.paste(person.resize((width, height), Image.Resampling.LANCZOS), (x, y))
        frames.append(np.asarray(frame))
    return frames


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw a video to try lip sync with.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parents[2] / "assets")
    folder = parser.parse_args().folder / "videos"
    folder.mkdir(parents=True, exist_ok=True)
    text, voice = SENTENCES[SAYS]
    speech = speak(text, voice)
    mouth = mouth_track(speech.phonemes, FRAMES, fps=FPS)
    samples_CS = torch.from_numpy(speech.samples[: FRAMES * speech.sample_rate // FPS])[None]
    who = random_identity(np.random.default_rng([PORTRAITS[WHO], 1]))
    writer = VideoWriter(
        folder / f"{WHO}.mp4",
        width=WIDTH,
        height=HEIGHT,
        fps=Fraction(FPS),
        audio=(samples_CS, speech.sample_rate),
        quality=_QUALITY,
    )
    writer.write(torch.from_numpy(np.stack(drawn_frames(who, mouth))))
    writer.finish()


if __name__ == "__main__":
    main()
