"""Does a long stream need more memory or time per chunk than a short one? TalkStream Mini, voice to file.

Command: python -m talkstream.benchmarks.memory [--minutes 1 10] [--threads 2] [--dtype float32]
Every length runs in a process of its own. Anonymous memory (Linux: RssAnon) is read after every chunk, from
opening the session to closing it, less the voice's own samples, which the caller holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from .mini_run import Timing, load, machine, stream, voice

STATUS = Path("/proc/self/status")
MEBIBYTE = 1 << 20
TOLERANCE = 0.05


def main() -> None:
    """Run every length, print a table and whether memory and time stay flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    choice = parser.parse_args()
    if not STATUS.is_file():
        sys.exit("this benchmark reads /proc/self/status and needs Linux")
    torch.set_num_threads(choice.threads)
    if choice.one is not None:
        print(json.dumps(measure(choice.one, getattr(torch, choice.dtype))))
        return
    print(f"{machine()}, {choice.dtype}")
    results = [run_apart(minutes, choice) for minutes in choice.minutes]
    print(table(results))
    print(verdict(results[0], results[-1]))


def run_apart(minutes: float, choice: argparse.Namespace) -> dict[str, float]:
    """One length in a fresh process."""
    command = [sys.executable, "-m", "talkstream.benchmarks.memory", "--one", str(minutes)]
    command += ["--threads", str(choice.threads), "--dtype", choice.dtype]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(finished.stdout.splitlines()[-1])


def measure(minutes: float, dtype: torch.dtype) -> dict[str, float]:
    """Peak memory and time per chunk of one run, in MiB and seconds."""
    loaded = load(dtype=dtype)
    clip_CS, rate = voice(60.0 * minutes)
    before, peak = anonymous_bytes() - clip_CS.nbytes, 0
    timing = Timing()
    with tempfile.TemporaryDirectory() as folder:
        for timing in stream(loaded, clip_CS, rate, Path(folder) / "memory.mp4"):  # noqa: B007
            peak = max(peak, anonymous_bytes() - clip_CS.nbytes)
    tenth = max(1, len(timing.chunks) // 10)
    steady = timing.chunks[1:]  # the first chunk is shorter and warms up
    return {
        "minutes": minutes,
        "chunks": len(timing.chunks),
        "before": before / MEBIBYTE,
        "peak": peak / MEBIBYTE,
        "first_tenth": statistics.median(steady[:tenth]),
        "last_tenth": statistics.median(steady[-tenth:]),
        "fps": timing.fps,
    }


def anonymous_bytes() -> int:
    """Anonymous memory of this process that is in RAM."""
    lines = STATUS.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def table(results: list[dict[str, float]]) -> str:
    """One row per length."""
    lines = ["minutes  chunks  before MiB  peak MiB  ms/chunk first tenth  last tenth  frames/s"]
    for r in results:
        lines.append(
            f"{r['minutes']:7.1f}  {r['chunks']:6.0f}  {r['before']:10.1f}  {r['peak']:8.1f}  "
            f"{1000 * r['first_tenth']:20.1f}  {1000 * r['last_tenth']:10.1f}  {r['fps']:8.1f}"
        )
    return "\n".join(lines)


def verdict(short: dict[str, float], long: dict[str, float]) -> str:
    """Peak of the longest against the shortest run, and time per chunk within the longest."""
    memory, time = long["peak"] / short["peak"] - 1, long["last_tenth"] / long["first_tenth"] - 1
    held = "within" if abs(memory) <= TOLERANCE else "NOT within"
    return (
        f"memory {memory:+.1%}: {held} {TOLERANCE:.0%}; time per chunk, last tenth against first: {time:+.1%}"
    )


if __name__ == "__main__":
    main()
