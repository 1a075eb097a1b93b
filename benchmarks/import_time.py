"""What the pack adds to ComfyUI's start: python dev.py run -m talkstream.benchmarks.import_time

Loads the pack through the host's own loader several times, each in a fresh process after the host's own imports,
and prints JSON: seconds, our modules that were loaded, and every other package that came with them. Needs
COMFYUI_PATH, which dev.py sets.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.path.abspath(__file__)).parents[1]
PROBE = """
import asyncio, json, os, sys, tempfile, time
sys.path.insert(0, os.environ["COMFYUI_PATH"])
import comfy.options
from comfy.cli_args import args
args.cpu, args.base_directory = True, tempfile.mkdtemp()
import nodes
asyncio.run(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
before = set(sys.modules)
started = time.perf_counter()
loaded = asyncio.run(nodes.load_custom_node(sys.argv[1], module_parent="custom_nodes"))
seconds = time.perf_counter() - started
new, pack = set(sys.modules) - before, sys.argv[1].replace(".", "_x_")
ours = sorted(name.removeprefix(pack).lstrip(".") for name in new if name.startswith(pack))
others = sorted({name.split(".")[0] for name in new if not name.startswith(pack)})
print("RESULT", json.dumps({"loaded": loaded, "seconds": seconds, "ours": ours, "others": others}))
"""


def measure() -> dict[str, object]:
    """One load in a fresh process: whether it worked, seconds, and what it imported."""
    command = [sys.executable, "-s", "-c", PROBE, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description="Seconds that the pack adds to ComfyUI's start.")
    parser.add_argument("--runs", type=int, default=5)
    runs = [measure() for _ in range(parser.parse_args().runs)]
    if not all(run["loaded"] for run in runs):
        raise RuntimeError("ComfyUI could not load the pack; start it once and read its log")
    seconds = [run["seconds"] for run in runs]
    result = {
        "python": sys.version.split()[0],
        "first_seconds": round(seconds[0], 4),
        "median_seconds": round(statistics.median(seconds), 4),
        "worst_seconds": round(max(seconds), 4),
        "limit_seconds": 0.1,
        "our_modules": runs[0]["ours"],
        "other_packages": runs[0]["others"],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
