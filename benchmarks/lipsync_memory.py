"""Does lip sync on a long video need more memory than on a short one? The shipped lip-sync graph in a ComfyUI.

Command: python dev.py run -m talkstream.benchmarks.lipsync_memory [--minutes 1 10] [--out results.md]
TalkStream Mini lip sync over a video that is made on the fly (the example video, there and back, 25 frames a second)
and a voice as long as it (the example sentence, over and over). Every length has a host of its own. It runs Track Face
alone first, then the whole graph: Encode Source Video, Stream Chunks, Decode Stream, Paste Face and Save Stream.
Memory is the host's anonymous one (Linux: RssAnon), its peak from the start to the end of each of the two, less the
voice's own samples, which the host holds.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from ..devtools.demo import LIPSYNC
from ..devtools.server import Server
from .host_run import MEBIBYTE, Graph, Outcome, PeakMemory, node, outcome, queue, running_host
from .mini_run import ASSETS, machine

VIDEO, FPS = ASSETS / "videos" / "theo.mp4", 25
TOLERANCE = 0.05
SAMPLE_BYTES = 4
SAMPLE_SECONDS = 0.1  # reading costs time that the host would have
VOICE_NODE = """
from comfy_api.latest import ComfyExtension, io

class LongVoice(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema("BenchmarkLongVoice", inputs=[io.Audio.Input("audio"), io.Float.Input("seconds", max=1e6)],
                         outputs=[io.Audio.Output()])

    @classmethod
    def execute(cls, audio, seconds):
        sentence, rate = audio["waveform"], audio["sample_rate"]
        samples = round(seconds * rate)
        voice = sentence.new_empty(*sentence.shape[:2], samples)
        for start in range(0, samples, sentence.shape[-1]):
            voice[..., start : start + sentence.shape[-1]] = sentence[..., : samples - start]
        return io.NodeOutput({"waveform": voice, "sample_rate": rate})

class Nodes(ComfyExtension):
    async def get_node_list(self):
        return [LongVoice]

async def comfy_entrypoint():
    return Nodes()
"""


@dataclass(frozen=True)
class Measured:
    """Peaks of one length in bytes, without the voice's samples, and the host's seconds for the whole graph."""

    minutes: float
    frames: int
    tracking: int
    streaming: int
    seconds: float

    @property
    def peak(self) -> int:
        """The larger of the two."""
        return max(self.tracking, self.streaming)


def main() -> None:
    """Measure every length, print a table and whether memory stays flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--out", type=Path, help="markdown file")
    choice = parser.parse_args()
    measured = []
    for minutes in choice.minutes:
        measured.append(measure(minutes))
        print(row(measured[-1]), flush=True)
    print(verdict(measured[0], measured[-1]))
    if choice.out is not None:
        choice.out.write_text(report(measured), encoding="utf-8")


def measure(minutes: float) -> Measured:
    """One length in a fresh host."""
    with running_host(pack=VOICE_NODE) as server:
        frames = write_video(server.base / "input" / "long.mp4", seconds=60 * minutes)
        graph = lipsync_graph(seconds=60 * minutes)
        tracked, _ = peak_of(server, tracking_part(graph))
        streamed, ended = peak_of(server, graph)
        made = Path(server.base, "output", *saved_path(ended))
        with av.open(str(made)) as file:
            shown, rate = file.streams.video[0].frames, file.streams.audio[0].rate
    if shown != frames:
        raise SystemExit(f"the video has {frames} frames, the result {shown}")
    voice = round(60 * minutes * rate) * SAMPLE_BYTES
    return Measured(minutes, frames, tracked, streamed - voice, ended.seconds)


def write_video(path: Path, *, seconds: float) -> int:
    """The example video's pictures, there and back, as H.264; returns how many frames there are."""
    frames = round(seconds * FPS)
    with av.open(str(VIDEO)) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(file.streams.video[0])]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "ultrafast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in itertools.islice(there_and_back(pictures), frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return frames


def there_and_back(pictures: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Without an end; the pictures at both ends are shown once each time."""
    return itertools.cycle([*pictures, *pictures[-2:0:-1]])


def lipsync_graph(*, seconds: float) -> Graph:
    """The shipped graph with the long video and a voice as long as it."""
    graph = copy.deepcopy(json.loads(LIPSYNC.read_text("utf-8")))
    keys = {item["class_type"]: key for key, item in graph.items()}
    sentence = graph[keys["TalkStreamEncodeSpeech"]]["inputs"]["audio"]
    graph["voice"] = node("BenchmarkLongVoice", audio=sentence, seconds=seconds)
    graph["video"] = node("LoadVideo", file="long.mp4")
    graph[keys["TalkStreamEncodeSpeech"]]["inputs"]["audio"] = ["voice", 0]
    graph[keys["TalkStreamTrackFace"]]["inputs"]["video"] = ["video", 0]
    del graph[keys["TalkStreamExampleVideo"]]
    return graph


def tracking_part(graph: Graph) -> Graph:
    """The nodes up to Track Face, whose result the whole graph then takes from the host's cache."""
    face = next(key for key, item in graph.items() if item["class_type"] == "TalkStreamTrackFace")
    return {"video": graph["video"], face: graph[face], "shown": node("PreviewAny", source=[face, 0])}


def peak_of(server: Server, graph: Graph) -> tuple[int, Outcome]:
    """The host's largest anonymous memory while it runs a graph. Ends this program where the graph fails."""
    with PeakMemory(server, every_seconds=SAMPLE_SECONDS) as memory:
        ended = outcome(server, queue(server, graph))
    if ended.error:
        raise SystemExit(f"{ended.node}: {ended.error}")
    return memory.peak, ended


def saved_path(ended: Outcome) -> tuple[str, str]:
    """Subfolder and name of the file that Save Stream shows."""
    shown = (item for output in ended.outputs.values() for item in output.get("images", []))
    saved = next(item for item in shown if item["type"] == "output")
    return saved["subfolder"], saved["filename"]


def row(one: Measured) -> str:
    """One line of the table."""
    sizes = " | ".join(f"{size / MEBIBYTE:.1f}" for size in (one.tracking, one.streaming))
    return f"| {one.minutes:g} | {one.frames} | {sizes} | {one.frames / one.seconds:.1f} |"


def verdict(short: Measured, long: Measured) -> str:
    """Peaks of the longest against the shortest."""
    growth = long.peak / short.peak - 1
    held = "within" if growth <= TOLERANCE else "NOT within"
    alone = long.tracking / short.tracking - 1
    return f"memory {growth:+.1%}: {held} {TOLERANCE:.0%}; Track Face alone {alone:+.1%}"


def report(measured: Sequence[Measured]) -> str:
    """The results file."""
    head = (
        "| minutes | frames | Track Face, MiB | whole graph, MiB | frames per second |\n|---|---|---|---|---|"
    )
    lines = [head, *map(row, measured), "", verdict(measured[0], measured[-1]) + "."]
    about = (
        f"{datetime.date.today()}, {machine()}; `python dev.py run -m talkstream.benchmarks.lipsync_memory`."
    )
    return "\n".join(["# Lip sync: memory over the length of a video", "", about, "", *lines, ""])


if __name__ == "__main__":
    main()
