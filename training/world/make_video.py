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
from .acting import loudness, spoken_acting
from .clips import identity_of
from .colours import Colour, shade
from .make_assets import PORTRAITS, SENTENCES
from .portrait import Portrait
from .pose import Pose
from .styles import tinted
from .visemes import MouthShape, mouth_track
from .voices import Speech, speak

WIDTH, HEIGHT, FPS, FRAMES = 320, 240, 30, 120
PERSON = (85, 40, 150, 200)  # x, y, width, height
FACE_BOX = (75, 39, 171, 154)  # the box whose aligned crop shows exactly PERSON
WHO, SAYS = "theo", "weather"
_DRAWN_SIDE = 304
_QUALITY = 21


def wall(low: Colour, high: Colour) -> Image.Image:
    """What stands still behind the person: a window, a picture, a shelf, on a wall of two colours."""
    share = np.linspace(1, 0, HEIGHT)[:, None, None]
    painted = np.broadcast_to(np.asarray(low) * (1 - share) + np.asarray(high) * share, (HEIGHT, WIDTH, 3))
    picture = Image.fromarray(painted.astype(np.uint8))
    draw, frame = ImageDraw.Draw(picture), shade(low, 0.62)
    draw.rectangle((14, 30, 72, 112), fill=frame)
    draw.rectangle((18, 34, 68, 108), fill=(176, 214, 236))
    draw.line((43, 34, 43, 108), fill=frame, width=3)
    draw.line((18, 71, 68, 71), fill=frame, width=3)
    draw.rectangle((252, 40, 306, 84), fill=(120, 84, 60))
    draw.rectangle((257, 45, 301, 79), fill=(226, 208, 152))
    draw.polygon([(257, 79), (274, 56), (288, 72), (294, 64), (301, 79)], fill=(110, 150, 104))
    draw.rectangle((244, 138, 314, 144), fill=(120, 84, 60))
    for place, colour in enumerate(((170, 62, 58), (66, 104, 150), (216, 172, 74), (88, 128, 92))):
        draw.rectangle((250 + 14 * place, 108 + 4 * (place % 2), 260 + 14 * place, 137), fill=colour)
    return picture


def drawn_frames(seed: int, speech: Speech) -> list[np.ndarray]:
    """(H, W, 3) uint8 for each frame of a held-out person who says something."""
    who = identity_of(seed, held_out=True)
    x, y, width, height = PERSON
    behind = wall(*(tinted(who.style, colour) for colour in who.palette[:2]))
    plain = np.asarray(behind.crop((x, y, x + width, y + height)))
    portrait = Portrait(who, side=_DRAWN_SIDE, behind=plain)
    mouth = mouth_track(speech.phonemes, FRAMES, fps=FPS)
    energy = loudness(speech.samples[: FRAMES * speech.sample_rate // FPS], FRAMES)
    poses = spoken_acting(np.random.default_rng(7), mouth, energy, "speaking", fps=FPS)
    frames = []
    for pose, shape in zip(poses.tolist(), mouth.tolist(), strict=True):
        person = Image.fromarray(portrait.draw(Pose(*pose), MouthShape(*shape)))
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
    speech = speak(*SENTENCES[SAYS])
    samples_CS = torch.from_numpy(speech.samples[: FRAMES * speech.sample_rate // FPS])[None]
    writer = VideoWriter(
        folder / f"{WHO}.mp4",
        width=WIDTH,
        height=HEIGHT,
        fps=Fraction(FPS),
        audio=(samples_CS, speech.sample_rate),
        quality=_QUALITY,
    )
    writer.write(torch.from_numpy(np.stack(drawn_frames(PORTRAITS[WHO], speech))))
    writer.finish()


if __name__ == "__main__":
    main()
