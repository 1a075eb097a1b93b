"""Candidates for shipped portraits, and sheets to judge the drawing by.

Command: python -m talkstream.training.world.make_portraits FOLDER [--seeds 90103 90107 ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from .clips import identity_of
from .portrait import REST, Portrait
from .pose import Pose
from .visemes import VISEMES, MouthShape

_SIDE = 512
_SHEET_SIDE = 128
_SEEDS = (90_100, 90_102, 90_103, 90_105, 90_107, 90_112, 90_114, 90_115)
_SMILE = 0.35


def _mouth(viseme: str) -> MouthShape:
    return MouthShape(*VISEMES[viseme])


def portrait_picture(seed: int) -> np.ndarray:
    """The person of a held-out seed, as of random_clip, looking ahead: (512, 512, 3) uint8."""
    return Portrait(identity_of(seed, held_out=True), side=_SIDE).draw(Pose(smile=_SMILE), REST)


def sheet_row(portrait: Portrait) -> np.ndarray:
    """One person at rest, in five visemes, in a blink, turned both ways, and singing -> (side, 10 side, 3) uint8."""
    cells = [(Pose(smile=_SMILE), REST)]
    cells += [(Pose(smile=0.2), _mouth(name)) for name in ("AA", "IH", "OU", "SS", "TH")]
    cells += [
        (Pose(eyes_open=0.0, smile=_SMILE), REST),
        (Pose(yaw=-0.9), _mouth("EH")),
        (Pose(yaw=0.9), _mouth("IH")),
    ]
    cells += [(Pose(brow=0.9, eyes_open=1.1, smile=0.7, tilt=0.06, yaw=0.25, pitch=-0.06), _mouth("OH"))]
    return np.concatenate([portrait.draw(pose, mouth) for pose, mouth in cells], axis=1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Draw candidates for portraits, and sheet.png of all of them."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=_SEEDS, help="held-out seeds, as of random_clip"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in given.seeds:
        Image.fromarray(portrait_picture(seed)).save(given.folder / f"{seed}.png", optimize=True)
        rows.append(sheet_row(Portrait(identity_of(seed, held_out=True), side=_SHEET_SIDE)))
    Image.fromarray(np.concatenate(rows)).save(given.folder / "sheet.png")


if __name__ == "__main__":
    main()
