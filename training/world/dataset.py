"""A folder of drawn clips: generated once in parallel, then read through memory maps.

Command: python -m talkstream.training.world.dataset OUT --clips 560 --frames 81 --side 128
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from .acting import DOMAINS
from .clips import FPS, SAMPLE_RATE, Clip, Motion, check_domains, dubbed_frames, random_clip
from .pose import POSE_NAMES


@dataclass(frozen=True)
class DatasetSize:
    """How much is drawn: clips, frames of each, side in pixels, first seed, whether it is held out, and whether
    heads and eyes move freely or with the speech.

    domains: what clips are of, some of DOMAINS; each clip draws one of them.
    """

    clips: int
    frames: int
    side: int
    first_seed: int = 0
    held_out: bool = False
    motion: Motion = "free"
    domains: tuple[str, ...] = ("speaking",)

    def __post_init__(self) -> None:
        check_domains(self.domains)


@dataclass(frozen=True)
class Dataset:
    """Memory-mapped clips: frames (N, F, H, W, 3) uint8, samples (N, S) float16, mouth (N, F, 5) float32.

    pose: (N, F, P) float64, columns POSE_NAMES; place: (N, F, 4) float32, see Clip; domain: (N,) int8, index in
    DOMAINS. None in folders that were drawn without them.
    """

    frames: np.ndarray
    samples: np.ndarray
    mouth: np.ndarray
    pose: np.ndarray | None = None
    place: np.ndarray | None = None
    domain: np.ndarray | None = None


def spawned_pool(workers: int) -> ProcessPoolExecutor:
    """Workers that start empty: espeak-ng hangs in a process forked from one where it runs."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def _clips(size: DatasetSize, workers: int) -> Iterator[Clip]:
    seeds = range(size.first_seed, size.first_seed + size.clips)
    draw = partial(
        random_clip, frames=size.frames, side=size.side, held_out=size.held_out, motion=size.motion,
        domains=size.domains,
    )  # fmt: skip
    with spawned_pool(workers) as pool:
        yield from pool.map(draw, seeds, chunksize=4)


def generate(folder: Path, size: DatasetSize, *, workers: int = 2) -> None:
    """Draw a data set into a folder; a folder that already holds the same size is kept."""
    if _is_finished(folder, _described(size)):
        return
    frames = _empty_frames(folder, size)
    tracks = {
        "samples": np.zeros((size.clips, size.frames * SAMPLE_RATE // FPS), np.float16),
        "mouth": np.zeros((size.clips, size.frames, 5), np.float32),
        "pose": np.zeros((size.clips, size.frames, len(POSE_NAMES)), np.float64),
        "place": np.zeros((size.clips, size.frames, 4), np.float32),
        "domain": np.zeros(size.clips, np.int8),
    }
    for index, clip in enumerate(_clips(size, workers)):
        frames[index] = clip.frames
        for name in ("samples", "mouth", "pose", "place"):
            tracks[name][index] = getattr(clip, name)
        tracks["domain"][index] = DOMAINS.index(clip.domain)
    frames.flush()
    _finish(folder, tracks, _described(size))


def generate_dubbed(folder: Path, source: Path, *, workers: int = 2) -> None:
    """Draw every clip of a generated folder again with the voice and the mouth of the clip after it.

    Faces, heads and eyes stay as they are; the last clip gets the first one's voice. A folder that already holds
    the same is kept.
    """
    described = {**json.loads((source / "dataset.json").read_text()), "dubbed": True}
    if _is_finished(folder, described):
        return
    size = DatasetSize(**{k: v for k, v in described.items() if k != "dubbed"})
    size, own = replace(size, domains=tuple(size.domains)), load(source)
    if own.pose is None:
        raise ValueError(
            f"{source} holds no poses; it was drawn by an earlier version: remove it and draw it again"
        )
    dub = np.roll(own.mouth, -1, axis=0)
    frames = _empty_frames(folder, size)
    draw = partial(dubbed_frames, side=size.side, held_out=size.held_out)
    seeds = range(size.first_seed, size.first_seed + size.clips)
    with spawned_pool(workers) as pool:
        for index, drawn in enumerate(pool.map(draw, seeds, own.pose, dub, chunksize=4)):
            frames[index] = drawn
    frames.flush()
    kept = {name: getattr(own, name) for name in ("pose", "place", "domain")}
    _finish(folder, {"samples": np.roll(own.samples, -1, axis=0), "mouth": dub, **kept}, described)


def _described(size: DatasetSize) -> dict[str, Any]:
    """A size as JSON gives it back."""
    return {**asdict(size), "domains": list(size.domains)}


def _is_finished(folder: Path, described: dict[str, Any]) -> bool:
    path = folder / "dataset.json"
    return path.exists() and json.loads(path.read_text()) == described


def _empty_frames(folder: Path, size: DatasetSize) -> np.ndarray:
    """Frames on disk, to be filled; the folder counts as unfinished until _finish."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").unlink(missing_ok=True)
    shape = (size.clips, size.frames, size.side, size.side, 3)
    return np.lib.format.open_memmap(folder / "frames.npy", mode="w+", dtype=np.uint8, shape=shape)


def _finish(folder: Path, tracks: dict[str, np.ndarray], described: dict[str, Any]) -> None:
    for name, track in tracks.items():
        np.save(folder / f"{name}.npy", track)
    (folder / "dataset.json").write_text(json.dumps(described))


def load(folder: Path) -> Dataset:
    """Open a generated folder. Raises FileNotFoundError where generation has not finished."""
    if not (folder / "dataset.json").exists():
        raise FileNotFoundError(
            f"{folder} holds no finished data set; expected dataset.json: generate it first"
        )
    found = {
        item.name: np.load(folder / f"{item.name}.npy", mmap_mode="r")
        for item in fields(Dataset)
        if item.default is MISSING or (folder / f"{item.name}.npy").exists()
    }
    return Dataset(**found)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw a data set of talking portraits.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=560)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--motion", choices=("free", "spoken"), default="free")
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=["speaking"])
    given = vars(parser.parse_args())
    given["domains"] = tuple(given["domains"])
    generate(given.pop("folder"), DatasetSize(**given))


if __name__ == "__main__":
    main()
