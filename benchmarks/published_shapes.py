"""How fast the published students' shapes stream, with random weights, through ComfyUI's own networks.

Command: python dev.py run -m talkstream.benchmarks.published_shapes [--shapes livetalk lipforcing] [--out results.md]
Speed depends on the shapes and not on the values of the weights, so none are read: they are drawn where they are
needed, in bfloat16. ComfyUI is imported into this process (COMFYUI_PATH) and holds the network and the VAE; the
pack's forward, KV cache, session and streaming decoder are those behind the nodes. No server, no files, no pictures.
Medians are of chunks that begin two chunks after the window is full.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from ..devtools.host import read_host
from ..networks.memory_plan import cache_bytes
from ..networks.multitalk_profiles import ECHOTORRENT, FLASHTALK
from ..networks.profile import LIPFORCING, LIVETALK, StudentProfile
from ..tests import layouts
from ..tests.host_process import import_host
from .records import command_of, markdown_table

GIBIBYTE = 1 << 30
EXTRA_WARM_UP = 2
PIXELS_PER_LATENT = 8
LINES = (
    "pixels", "denoising steps", "latents per chunk", "latents in the full window", "frames per chunk",
    "KV cache, GiB", "weights of the student, GiB", "peak, GiB", "denoising, s", "keeping the past, s",
    "VAE decode, s", "chunk, s", "frames per second", "frames per second without the VAE",
    "frames per second of its video",
)  # fmt: skip
ABOUT = """\
Random weights in bfloat16 in the published tensors' shapes, held by ComfyUI's own Wan network and Wan 2.1 VAE, on the
device all the while (as with `--highvram`); the pack's forward, KV cache, session and streaming decoder. Chunks
counted: {chunks}, from {warm} after the window was full; seconds are medians, and the device is waited for around
every part.

Included: the noise, all denoising steps, what keeps the past (the clean-context pass, or motion frames encoded again;
nothing with one cache per step), the VAE's decoder in the number format that ComfyUI chooses ({vae}), pictures
brought to main memory. Left out: loading, the encoders of voice and text (tokens are random), the source video's
faces and their encoding (latents are random), pasting, writing. Peak: largest memory that torch held for tensors
during the run, weights and VAE included.
"""


@dataclass(frozen=True, eq=False)
class Shape:
    """A student that can be measured: how it streams, its tensors, and how wide its VAE is."""

    title: str
    profile: StudentProfile
    layout: layouts.Layout
    vae_width: int = 96

    @property
    def cache_bytes(self) -> int:
        """Of the KV cache in bfloat16; 0 without one."""
        profile, shapes = self.profile, self.layout
        if profile.motion_frames:
            return 0
        return cache_bytes(
            profile.cache_spec,
            layers=sum(name.endswith(".self_attn.q.weight") for name in shapes),
            dim=shapes["head.modulation"][-1],
            latent_height=profile.height // PIXELS_PER_LATENT,
            latent_width=profile.width // PIXELS_PER_LATENT,
            itemsize=2,
        )

    @property
    def window(self) -> int:
        """Latents in sight once the window is full."""
        return self.profile.chunk if self.profile.motion_frames else self.profile.cache_spec.window

    @property
    def warm_up(self) -> int:
        """Chunks before the first that counts."""
        return -(-self.window // self.profile.chunk) + EXTRA_WARM_UP

    @property
    def frames(self) -> int:
        """New frames of every chunk but the first."""
        profile = self.profile
        return profile.frames_in_chunk(0 if profile.motion_frames else 1) - profile.motion_frames


def multitalk(**sizes: int) -> layouts.Layout:
    """A whole student of the MultiTalk family."""
    shared = {name: size for name, size in sizes.items() if name != "ffn_dim"}
    return layouts.image_to_video(**sizes) | layouts.multitalk_audio(**shared)


SHAPES = {
    "livetalk": Shape("LiveTalk 1.3B", LIVETALK, layouts.livetalk()),
    "lipforcing": Shape("Lip Forcing 14B", LIPFORCING, layouts.lip_forcing()),
    "echotorrent": Shape("EchoTorrent 14B", ECHOTORRENT, multitalk()),
    "flashtalk": Shape("FlashTalk 14B", FLASHTALK, multitalk()),
}


def tiny(shape: Shape) -> Shape:
    """The same kind of student so small that a CPU streams it at once."""
    profile = replace(shape.profile, width=32, height=32)
    if profile.family == "multitalk":
        layout = multitalk(dim=128, ffn_dim=128, layers=4)
    else:
        in_dim = shape.layout["patch_embedding.weight"][1]
        layout = layouts.student(dim=128, ffn_dim=128, layers=4, in_dim=in_dim)
    return Shape(f"{shape.title.rsplit(' ', 1)[0]} tiny", profile, layout, vae_width=8)


@dataclass(frozen=True)
class Measured:
    """Medians in seconds per chunk, bytes of the weights, and of the device at its fullest; None on a CPU."""

    denoising: float
    past: float
    decode: float
    chunk: float
    weights: int
    peak: int | None
    vae_dtype: str


class Clock:
    """Seconds of named parts, the device waited for before and after each."""

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = {}
        self._wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time of its body."""
        self._wait()
        started = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every shape; the page is written anew after each. Ends with an error where one failed."""
    choice = parse(arguments)
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        sys.exit("set COMFYUI_PATH to a ComfyUI, or start this with `python dev.py run -m ...`")
    shapes = [tiny(SHAPES[name]) if choice.tiny else SHAPES[name] for name in choice.shapes]
    results: dict[str, Measured | str] = {}
    with tempfile.TemporaryDirectory(prefix="talkstream-host-", ignore_cleanup_errors=True) as base:
        import_host(Path(path).resolve(), Path(base), cpu=choice.device == "cpu")
        for shape in shapes:
            results[shape.title] = attempt(shape, choice.device, choice.chunks)
            text = page(shapes, results, choice, command_of("published_shapes", arguments))
            print(text, flush=True)
            if choice.out is not None:
                choice.out.write_text(text, encoding="utf-8")
    failed = [title for title, result in results.items() if isinstance(result, str)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; the reasons are above")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["livetalk", "lipforcing"])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if gpu else "cpu")
    parser.add_argument("--chunks", type=int, default=5, help="chunks that count")
    parser.add_argument(
        "--tiny", action="store_true", help="small networks of the same kinds, to try the command"
    )
    parser.add_argument("--out", type=Path, help="markdown file")
    choice = parser.parse_args(arguments)
    if choice.chunks < 1:
        parser.error(f"--chunks is {choice.chunks}; give at least 1")
    if choice.device == "cuda" and not gpu:
        parser.error("--device cuda, but torch finds no GPU here; choose cpu")
    return choice


def attempt(shape: Shape, device: str, chunks: int) -> Measured | str:
    """The numbers of a shape, or why there are none: the next shape is measured all the same."""
    started = time.perf_counter()
    try:
        with torch.inference_mode():
            return measure(shape, device, chunks)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is told, and the other shapes go on)
        traceback.print_exc()
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        print(f"{shape.title}: {time.perf_counter() - started:.1f} s in all", file=sys.stderr, flush=True)


def measure(shape: Shape, device: str, chunks: int) -> Measured:
    """One stream of a shape, from drawing its weights to its last chunk."""
    from ..tests.nodes import random_students  # imports the host

    model = random_students.random_student(shape.layout, shape.profile, dtype=torch.bfloat16)
    vae = random_students.random_vae(shape.vae_width)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    clock, counted = Clock(device), []
    stream = random_students.running(
        model,
        vae,
        chunks=shape.warm_up + chunks,
        keeping_past=lambda: clock.part("past"),
    )
    with stream as (session, decoder):
        made = session.chunks()
        for index in range(shape.warm_up + chunks):
            clock.seconds = {"past": 0.0}
            with clock.part("chunk"):
                with clock.part("latents"):
                    latents = next(made)
                with clock.part("decode"):
                    decoder.decode(latents.latent_BCTHW)
            if index >= shape.warm_up:
                counted.append(clock.seconds)
    middle = {name: median(one[name] for one in counted) for name in ("past", "decode", "chunk")}
    return Measured(
        denoising=median(one["latents"] - one["past"] for one in counted),
        **middle,
        weights=model.model_size() + sum(part.model_size() for part in model.get_nested_additional_models()),
        peak=torch.cuda.max_memory_allocated() if device == "cuda" else None,
        vae_dtype=str(vae.vae_dtype).removeprefix("torch."),
    )


def page(
    shapes: Sequence[Shape], results: dict[str, Measured | str], choice: argparse.Namespace, command: str
) -> str:
    """The results file, as far as there are results."""
    done = {shape: results[shape.title] for shape in shapes if shape.title in results}
    columns = [column(shape, result) for shape, result in done.items() if isinstance(result, Measured)]
    failed = [f"- {shape.title}: {result}" for shape, result in done.items() if isinstance(result, str)]
    formats = sorted({result.vae_dtype for result in done.values() if isinstance(result, Measured)})
    about = ABOUT.format(chunks=choice.chunks, warm=EXTRA_WARM_UP, vae=", ".join(formats) or "none was made")
    parts = [
        "# Published students' shapes: speed with random weights",
        f"{machine(choice.device)}; `{command}`.",
        about,
    ]
    if columns:
        head, *lines = zip(("", *LINES), *columns, strict=True)
        parts.append(markdown_table(head, lines))
    parts += ["Failed:\n\n" + "\n".join(failed) + "\n"] if failed else []
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def column(shape: Shape, result: Measured) -> list[str]:
    """A shape's name, then its value in each of LINES."""
    profile = shape.profile
    sizes = [
        f"{size / GIBIBYTE:.2f}" if size is not None else "-"
        for size in (shape.cache_bytes, result.weights, result.peak)
    ]
    seconds = [f"{part:.3f}" for part in (result.denoising, result.past, result.decode, result.chunk)]
    return [
        shape.title,
        f"{profile.width}x{profile.height}",
        str(profile.steps),
        str(profile.chunk),
        str(shape.window),
        str(shape.frames),
        *sizes,
        *seconds,
        f"{shape.frames / result.chunk:.1f}",
        f"{shape.frames / (result.denoising + result.past):.1f}",
        f"{profile.fps_num / profile.fps_den:g}",
    ]


def machine(device: str) -> str:
    """Day, card, torch and ComfyUI, in one line."""
    host = read_host(Path(os.environ["COMFYUI_PATH"]), installed=False)
    name = "the CPU"
    if device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        name = f"{torch.cuda.get_device_name(0)} ({total / GIBIBYTE:.0f} GiB), CUDA {torch.version.cuda}"
    return f"{datetime.date.today()}, {name}, torch {torch.__version__}, ComfyUI {host.version}"


if __name__ == "__main__":
    main()
