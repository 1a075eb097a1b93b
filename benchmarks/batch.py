"""Many prompts through ComfyUI's HTTP API: do all come out, does a bad one fail alone, does memory stay?

Command: python dev.py run -m talkstream.benchmarks.batch [--prompts 50] [--seconds 2]
TalkStream Mini with other portraits, voices and seeds in every prompt, all queued at once; one in the middle asks for a
size that no student can have. Memory (Linux: RssAnon of the host) is read after every prompt. Also an example of a
client: everything is in queue() and outcome() of host_run.py.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..devtools.server import Server
from .host_run import MEBIBYTE, Graph, Outcome, anonymous_bytes, outcome, queue, running_host

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "workflows" / "api" / "talkstream_quickstart.json"
SETTLED = 3  # prompts until models are loaded and buffers have grown
TOLERANCE = 0.05
BAD_WIDTH = 100


def main() -> None:
    """Queue all prompts, print one line for each and a verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2.0, help="of every voice")
    choice = parser.parse_args()
    bad = choice.prompts // 2
    graphs = quickstart_graphs(choice.prompts, seconds=choice.seconds, bad=bad)
    outcomes, memory = [], []
    with running_host() as server:
        for number, (ended, size) in enumerate(run_batch(server, graphs)):
            outcomes.append(ended)
            memory.append(size)
            told = ended.error and f"{ended.node}: {ended.error}"
            print(
                f"{number:4d}  {ended.seconds:7.2f} s  {size / MEBIBYTE:8.1f} MiB  {told or 'done'}",
                flush=True,
            )
    print(verdict(outcomes, memory, bad=bad))


def quickstart_graphs(count: int, *, seconds: float, bad: int) -> list[Graph]:
    """The shipped quickstart with another portrait, voice, seed and file name in each; number `bad` cannot run."""
    graph = json.loads(QUICKSTART.read_text("utf-8"))
    keys = {item["class_type"]: key for key, item in graph.items()}
    pairs = itertools.cycle(itertools.product(names("portraits", ".png"), names("sentences", ".wav")))
    graphs = []
    for number, (portrait, sentence) in zip(range(count), pairs, strict=False):
        one = copy.deepcopy(graph)
        one[keys["TalkStreamExamples"]]["inputs"].update(portrait=portrait, sentence=sentence)
        one[keys["TalkStreamEncodeSpeech"]]["inputs"]["limit_seconds"] = seconds
        one[keys["TalkStreamStreamChunks"]]["inputs"]["seed"] = number
        one[keys["TalkStreamSaveStream"]]["inputs"]["filename_prefix"] = f"batch/{number:03d}"
        graphs.append(one)
    graphs[bad][keys["TalkStreamEncodeReference"]]["inputs"]["width"] = BAD_WIDTH
    return graphs


def names(folder: str, suffix: str) -> list[str]:
    """Shipped examples of one kind."""
    return sorted(path.stem for path in (ROOT / "assets" / folder).glob(f"*{suffix}"))


def run_batch(server: Server, graphs: Sequence[Graph]) -> Iterator[tuple[Outcome, int]]:
    """Queues all graphs at once and gives each outcome with the host's memory behind it, in order."""
    for prompt_id in [queue(server, graph) for graph in graphs]:
        yield outcome(server, prompt_id), anonymous_bytes(server)


def verdict(outcomes: Sequence[Outcome], memory: Sequence[int], *, bad: int) -> str:
    """How many came out, what failed, and memory after the last prompt against the third."""
    failed = [number for number, ended in enumerate(outcomes) if ended.error]
    alone = (
        "the bad one alone failed" if failed == [bad] else f"NOT as expected: {failed} failed, not only {bad}"
    )
    growth = memory[-1] / memory[SETTLED - 1] - 1
    held = "within" if growth <= TOLERANCE else "NOT within"
    return (
        f"{len(outcomes) - len(failed)} of {len(outcomes)} came out; {alone}; memory after the last against number "
        f"{SETTLED}: {growth:+.1%}: {held} {TOLERANCE:.0%}"
    )


if __name__ == "__main__":
    main()
