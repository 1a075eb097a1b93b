"""Kills ComfyUI at random moments of a run: python dev.py run -m talkstream.benchmarks.kill_runs --kills 30

Each time a growing file must play up to the last saved chunk, and the same graph, queued again, must go on from
there; in the end the video must be that of an undisturbed run, frame by frame. A run that goes on writes its file from
the beginning, from the saved latents: until that has passed the place of the kill before, the older file, which stays,
plays further. Prints JSON. Needs COMFYUI_PATH, which dev.py sets.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np

from ..devtools.demo import QUICKSTART, Graph, queue, wait_for_outputs, written_video
from ..devtools.environment import Setup
from ..devtools.host import read_host
from ..devtools.server import Server, serve

HELD_BACK = 2
"""Frames at the end of a growing file that its format cannot show yet."""
NO_TAKES = {"TalkStream.Takes.LimitGB": 0}
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Kill:
    """One killed process. after_seconds: since its file began; saved_frames: in chunks whose state was safe.

    shown_frames: what the file plays; same: whether they are those of the undisturbed run.
    """

    after_seconds: float
    saved_frames: int
    shown_frames: int
    same: bool


def quickstart(*, seconds: float, save_every: int, prefix: str) -> Graph:
    """The shipped graph over the beginning of its sentence."""
    graph: Graph = json.loads(QUICKSTART.read_text("utf-8"))
    for node in graph.values():
        if node["class_type"] == "TalkStreamEncodeSpeech":
            node["inputs"]["limit_seconds"] = seconds
        if node["class_type"] == "TalkStreamSaveStream":
            node["inputs"].update({"save_state_every": save_every, "filename_prefix": prefix})
    return graph


def pictures(path: Path) -> np.ndarray:
    """Every frame that a file plays: (F, H, W, 3) uint8."""
    with av.open(str(path)) as file:
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(file.streams.video[0])]
    return np.stack(shown) if shown else np.zeros((0, 1, 1, 3), np.uint8)


@contextmanager
def host(base: Path) -> Iterator[Server]:
    """A ComfyUI that keeps no takes, so that nothing but the saved state can be gone on from."""
    setup = Setup(Path(sys.executable), read_host(Path(os.environ["COMFYUI_PATH"]), installed=False))
    user = base / "user" / "default"
    user.mkdir(parents=True, exist_ok=True)
    (user / "comfy.settings.json").write_text(json.dumps(NO_TAKES), "utf-8")
    with serve(setup, base) as server:
        yield server


def undisturbed(server: Server, *, seconds: float) -> tuple[np.ndarray, float]:
    """The frames of a run that nobody kills, and how long its second run took."""
    for prefix in ("first", "whole"):
        started = time.monotonic()
        outputs = wait_for_outputs(
            server, queue(server, quickstart(seconds=seconds, save_every=0, prefix=prefix))
        )
    return pictures(written_video(server, outputs)), time.monotonic() - started


def kill_one(server: Server, graph: Graph, *, wait: float, whole: np.ndarray) -> Kill | None:
    """Queue, wait for the file and then so many seconds, kill; None where the run was over before."""
    folder = server.base / "output"
    before = set(folder.glob("killed_*.mp4"))
    prompt_id = queue(server, graph)
    while not (fresh := [p for p in set(folder.glob("killed_*_partial*.mp4")) - before if p.stat().st_size]):
        time.sleep(POLL_SECONDS)
    time.sleep(wait)
    if server.json(f"/history/{prompt_id}"):
        return None
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    shown = pictures(fresh[0])
    return Kill(
        round(wait, 3),
        saved_frames(server.base),
        len(shown),
        bool(np.array_equal(shown, whole[: len(shown)])),
    )


def saved_frames(base: Path) -> int:
    """Frames up to the newest save point: every one of them had been written before it was made."""
    points = list((base / "user" / "__talkstream" / "runs").glob("*/run.json"))
    if not points:
        return 0
    point = json.loads(points[0].read_text("utf-8"))
    return 4 * point["chunks"] * point["shape"][2] - 3


def all_play(killed: Sequence[Kill]) -> bool:
    """Whether after every kill some file plays what was safe, less what its format holds back."""
    furthest = 0
    for kill in killed:
        furthest = max(furthest, kill.shown_frames)
        if not kill.same or furthest < kill.saved_frames - HELD_BACK:
            return False
    return True


def measure(base: Path, *, kills: int, seconds: float, seed: int) -> dict[str, object]:
    """All of it, in a folder of its own."""
    moments, done = random.Random(seed), []
    graph = quickstart(seconds=seconds, save_every=1, prefix="killed")
    with host(base) as server:
        whole, run_seconds = undisturbed(server, seconds=seconds)
        done.append(kill_one(server, graph, wait=moments.uniform(0, run_seconds), whole=whole))
    while len(done) < kills:
        with host(base) as server:
            done.append(kill_one(server, graph, wait=moments.uniform(0, run_seconds / 2), whole=whole))
    with host(base) as server:
        final = pictures(written_video(server, wait_for_outputs(server, queue(server, graph))))
    killed = [kill for kill in done if kill is not None]
    return {
        "frames": len(whole),
        "run_seconds": round(run_seconds, 2),
        "kills": [asdict(kill) for kill in killed],
        "all_play": all_play(killed),
        "resumed_is_identical": bool(np.array_equal(final, whole)),
        "left_in_the_user_folder": [path.name for path in (base / "user" / "__talkstream").rglob("*.json")],
    }


def main() -> None:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description="Kill ComfyUI at random moments of a run and go on.")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=3.0, help="of video")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        result = measure(Path(base), kills=options.kills, seconds=options.seconds, seed=options.seed)
    print(json.dumps(result, indent=1))
    if not (result["all_play"] and result["resumed_is_identical"]):
        raise SystemExit("a killed run lost what was finished, or went on differently")


if __name__ == "__main__":
    main()
