"""The quickstart with a voice long enough to watch it being made."""

from __future__ import annotations

import wave
from pathlib import Path

from talkstream.tests.workflows.graphs import WORKFLOWS, read_ui

SENTENCE = WORKFLOWS.parent / "assets" / "sentences" / "hello.wav"


def write_long_voice(path: Path, *, times: int) -> float:
    """A shipped sentence so many times over; gives its seconds."""
    with wave.open(str(SENTENCE)) as source, wave.open(str(path), "wb") as target:
        target.setparams(source.getparams())
        samples = source.readframes(source.getnframes())
        for _ in range(times):
            target.writeframes(samples)
        return times * source.getnframes() / source.getframerate()


def with_voice(file_name: str) -> dict:
    """The quickstart as the canvas saves it, with core's Load Audio in place of the example voice."""
    graph = read_ui("talkstream_quickstart")
    examples = next(node for node in graph["nodes"] if node["type"] == "TalkStreamExamples")
    slot, output = next((i, out) for i, out in enumerate(examples["outputs"]) if out["type"] == "AUDIO")
    (link,) = output["links"]
    output["links"] = []
    load_audio = next(node for node in read_ui("talkstream_livetalk")["nodes"] if node["type"] == "LoadAudio")
    load_audio["id"] = graph["last_node_id"] = graph["last_node_id"] + 1
    load_audio["pos"] = [40, 980]
    load_audio["widgets_values"][0] = file_name
    load_audio["outputs"][0]["links"] = [link]
    graph["nodes"].append(load_audio)
    for wire in graph["links"]:
        if wire[0] == link:
            assert (wire[1], wire[2]) == (examples["id"], slot)
            wire[1], wire[2] = load_audio["id"], 0
    return graph
