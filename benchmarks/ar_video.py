"""Our chunk loop against core's SamplerARVideo, in the same ComfyUI, with the same weights and sizes.

Command: python dev.py run -m talkstream.benchmarks.ar_video [--latents 5 20 60 240] [--size 96] [--repeats 3]
The Wan network of TalkStream Mini, in chunks of 5 latents and 4 steps, in float32. Core gets it as a causal
text-to-video network (the 16 noise channels of its input layer, no audio); ours runs as the whole student, with its
voice and portrait. Both go through SamplerCustomAdvanced: core with Sampler AR Video, which keeps keys and values of
the whole clip, ours with Chunk Sampler, whose window is 15 latents. Seconds are the host's own for the sampling node,
the best of the repeats, over the number of chunks. Memory is the host's anonymous peak (Linux) above what it held
after a first clip of the shortest length; each sampler has a host of its own, because one leaves freed memory behind.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..devtools.server import Server
from ..model_loaders.build import Student, open_student
from ..networks.profile import METADATA_KEY
from .host_run import MEBIBYTE, Graph, PeakMemory, anonymous_bytes, node, outcome, queue, running_host

MINI = Path(__file__).resolve().parents[1] / "assets" / "diffusion_models" / "talkstream_mini.safetensors"
CORE_FILE, OUR_FILE = "core_causal.safetensors", "our_student.safetensors"
CHUNK, HISTORY = 5, 7
SIGMAS = "1, 0.9375, 0.8333, 0.625, 0"
NOISE_CHANNELS, FPS = 16, 25
TEXT_NODE = """
import torch
from comfy_api.latest import ComfyExtension, io

class NoText(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema("BenchmarkNoText", inputs=[], outputs=[io.Conditioning.Output()])

    @classmethod
    def execute(cls):
        return io.NodeOutput([[torch.zeros(1, 1, 4096), {}]])

class Nodes(ComfyExtension):
    async def get_node_list(self):
        return [NoText]

async def comfy_entrypoint():
    return Nodes()
"""


@dataclass(frozen=True)
class Measured:
    """Seconds per chunk of one sampler at one length, and bytes above what its host held before."""

    seconds: float
    peak: int


def main() -> None:
    """Every length through both, one row each, and whether ours is faster and flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latents", type=int, nargs="+", default=[5, 20, 60, 240])
    parser.add_argument("--size", type=int, default=96, help="width and height in pixels, a multiple of 16")
    parser.add_argument("--repeats", type=int, default=3)
    choice = parser.parse_args()
    lengths = sorted(choice.latents)
    core, ours = (
        measure_all(make, lengths, size=choice.size, repeats=choice.repeats)
        for make in (core_graph, our_graph)
    )
    print("latents  core s/chunk  ours s/chunk  core MiB  ours MiB  core / ours")
    for latents, theirs, mine in zip(lengths, core, ours, strict=True):
        print(
            f"{latents:7d}  {theirs.seconds:12.4f}  {mine.seconds:12.4f}  {theirs.peak / MEBIBYTE:8.1f}  "
            f"{mine.peak / MEBIBYTE:8.1f}  {theirs.seconds / mine.seconds:11.2f}"
        )
    print(verdict(core, ours, lengths))


def write_models(folder: Path) -> None:
    """The same Wan tensors twice: for core's loader and for ours."""
    folder.mkdir(parents=True, exist_ok=True)
    student = open_student(MINI)
    wan = {name: tensor.float() for name, tensor in student.wan_tensors().items()}
    audio = {name: tensor.float() for name, tensor in student.audio_tensors().items()}
    core = {**wan, "patch_embedding.weight": wan["patch_embedding.weight"][:, :NOISE_CHANNELS].contiguous()}
    config = json.dumps({"transformer": {"causal_ar": True}})
    save_file(core, str(folder / CORE_FILE), metadata={"config": config})
    save_file({**wan, **audio}, str(folder / OUR_FILE), metadata={METADATA_KEY: longer_chunks(student)})


def longer_chunks(student: Student) -> str:
    """The Mini's profile with chunks that divide every length; how it looks then does not matter here."""
    return json.dumps({**json.loads(student.profile.to_json()), "chunk": CHUNK, "history": HISTORY})


def shared_nodes() -> Graph:
    """Noise, guider and steps, for the MODEL of node 1, and where the LATENT of node 14 goes."""
    return {
        "10": node("BenchmarkNoText"),
        "11": node("BasicGuider", model=["1", 0], conditioning=["10", 0]),
        "12": node("RandomNoise", noise_seed=0),
        "13": node("ManualSigmas", sigmas=SIGMAS),
        "15": node("SaveLatent", samples=["14", 0], filename_prefix="latents/clip"),
    }


def core_graph(latents: int, size: int) -> Graph:
    """Core's own way."""
    return {
        **shared_nodes(),
        "1": node("UNETLoader", unet_name=CORE_FILE, weight_dtype="default"),
        "2": node("SamplerARVideo", num_frame_per_block=CHUNK),
        "3": node("EmptyARVideoLatent", width=size, height=size, length=4 * latents - 3, batch_size=1),
        "14": sampling(sampler=["2", 0], latent=["3", 0]),
    }


def our_graph(latents: int, size: int) -> Graph:
    """The same with a voice of that length and a portrait."""
    return {
        **shared_nodes(),
        "1": node("TalkStreamLoadStudent", student=OUR_FILE, profile="auto", precision="fp32"),
        "2": node("VAELoader", vae_name="talkstream_mini_vae.safetensors"),
        "3": node("EmptyImage", width=size, height=size, batch_size=1, color=0x804020),
        "4": node("EmptyAudio", duration=(4 * latents - 3) / FPS, sample_rate=16000, channels=1),
        "5": node("TalkStreamEncodeSpeech", model=["1", 0], audio=["4", 0]),
        "6": node(
            "TalkStreamEncodeReference", model=["1", 0], vae=["2", 0], image=["3", 0], width=size, height=size
        ),
        "7": node("TalkStreamChunkSampler", speech=["5", 0], reference=["6", 0]),
        "14": sampling(sampler=["7", 0], latent=["7", 1]),
    }


def sampling(*, sampler: list[object], latent: list[object]) -> dict[str, object]:
    """Core's node that both go through."""
    return node(
        "SamplerCustomAdvanced",
        noise=["12", 0],
        guider=["11", 0],
        sampler=sampler,
        sigmas=["13", 0],
        latent_image=latent,
    )


def measure_all(
    make_graph: Callable[[int, int], Graph], lengths: Sequence[int], *, size: int, repeats: int
) -> list[Measured]:
    """One sampler at every length, from short to long, in a host of its own: what one leaves would hide the other's."""
    with running_host(pack=TEXT_NODE) as server:
        write_models(server.base / "models" / "diffusion_models")
        run(server, make_graph(lengths[0], size), seed=0)
        held = anonymous_bytes(server)
        return [measure(server, make_graph(n, size), latents=n, repeats=repeats, held=held) for n in lengths]


def measure(server: Server, graph: Graph, *, latents: int, repeats: int, held: int) -> Measured:
    """One run to warm up, then the timed ones, in which only noise and sampling are new."""
    seconds = []
    with PeakMemory(server) as memory:
        for repeat in range(1 + repeats):
            seconds.append(run(server, graph, seed=1 + repeat) / -(-latents // CHUNK))
    return Measured(min(seconds[1:]), memory.peak - held)


def run(server: Server, graph: Graph, *, seed: int) -> float:
    """Seconds of one prompt. Raises RuntimeError where it fails."""
    graph["12"]["inputs"]["noise_seed"] = seed
    ended = outcome(server, queue(server, graph))
    if ended.error:
        raise RuntimeError(f"{ended.node}: {ended.error}")
    return ended.seconds


def verdict(core: Sequence[Measured], ours: Sequence[Measured], lengths: Sequence[int]) -> str:
    """Whether ours is the faster one everywhere, and what each further chunk costs between neighbouring lengths.

    A clip's first chunks are cheaper, having less behind them: the mean over a clip rises even where time is flat.
    """
    slower = sum(mine.seconds >= theirs.seconds for theirs, mine in zip(core, ours, strict=True))
    told = "faster at every length" if not slower else f"NOT faster at {slower} of {len(ours)} lengths"
    further = [
        f"{name} {', '.join(further_seconds(rows, lengths))}"
        for name, rows in (("core", core), ("ours", ours))
    ]
    return f"ours is {told}; seconds per further chunk from one length to the next: {'; '.join(further)}"


def further_seconds(rows: Sequence[Measured], lengths: Sequence[int]) -> list[str]:
    """What one chunk more costs, between each length and the next."""
    chunks = [-(-length // CHUNK) for length in lengths]
    whole = [row.seconds * count for row, count in zip(rows, chunks, strict=True)]
    return [f"{(whole[i + 1] - whole[i]) / (chunks[i + 1] - chunks[i]):.4f}" for i in range(len(rows) - 1)]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
