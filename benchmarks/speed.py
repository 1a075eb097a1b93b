"""Speed of TalkStream Mini from voice to file: frames a second, time to the first frame, share of each stage.

Command: python -m talkstream.benchmarks.speed [--seconds 20] [--threads 2] [--dtypes float32 bfloat16]
Models are loaded and warmed up before; ComfyUI is not part of it. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import deque
from pathlib import Path

import torch

from .mini_run import Timing, load, machine, stream, voice

WARM_UP_SECONDS = 1.5


def main() -> None:
    """Print one table per number format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the voice")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    choice = parser.parse_args()
    torch.set_num_threads(choice.threads)
    print(machine())
    for name in choice.dtypes:
        print(report(name, measure(getattr(torch, name), choice.seconds)))


def measure(dtype: torch.dtype, seconds: float) -> tuple[Timing, str]:
    """Timing of one run after a short one, and the size of the picture."""
    loaded = load(dtype=dtype)
    with tempfile.TemporaryDirectory() as folder:
        for length in (WARM_UP_SECONDS, seconds):
            clip_CS, rate = voice(length)
            [timing] = deque(stream(loaded, clip_CS, rate, Path(folder) / f"{length}.mp4"), maxlen=1)
    return timing, f"{loaded.profile.width}x{loaded.profile.height}"


def report(name: str, measured: tuple[Timing, str]) -> str:
    """Lines for one number format."""
    timing, size = measured
    rest = timing.total - sum(timing.stages.values())
    shares = {**timing.stages, "rest": rest}
    lines = [
        f"\n{name}, {size}, {timing.frames} frames",
        f"  end to end      {timing.fps:7.1f} frames per second",
        f"  first frames    {timing.first_frame:7.3f} s after the session is opened",
    ]
    lines += [f"  {stage:<15} {100 * spent / timing.total:6.1f} %" for stage, spent in shares.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
