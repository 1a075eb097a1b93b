"""What a codec costs and shows: decoding time and PSNR against its width and the size of the picture.

Command: python -m talkstream.benchmarks.codec_curve [--dims 8 16 24 32] [--sides 96 128 160] [--seconds 600]
         [--steps 2000 --device cuda] [--runs runs/codec_curve] [--out benchmarks/results/codec_curve]
Times are of the decoder as it ships, latent by latent, with random weights, on one thread: the median CPU time of a
frame, in which other work on the machine counts little. PSNR is of held-out clips after a training from nothing that
lasts the same for every point, in seconds or in steps, on crops of 64 pixels; --seconds 0 measures times only. A run
that is started again resumes: finished points are read from the CSV file, unfinished trainings go on.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ..networks.causal_vae import CausalVAE, VAEConfig
from ..streaming.decoder import StreamingDecoder
from ..training.codec import CodecSettings, CodecStage
from ..training.codec_init import initialise_codec
from ..training.plots import Curve, Plot, draw_sheet
from ..training.trainer import Budget, train
from ..training.world.dataset import DatasetSize, generate, load
from .mini_run import machine
from .records import command_of, read_records, write_records

PIXELS_PER_LATENT, FRAMES_PER_LATENT = 8, 4
_WARM_UP, _TIMED = 2, 8  # latents
_CROPS = ((1.0, ((64, 17, 2),)),)


@dataclass(frozen=True)
class Point:
    """One codec. Times in CPU milliseconds per frame; PSNR in dB, whole and around the mouth, where it was trained."""

    dim: int
    side: int
    bf16_ms: float
    fp32_ms: float
    seconds: float = 0.0
    psnr: float | None = None
    mouth_psnr: float | None = None
    steps: int = 0


def frame_ms(dim: int, side: int, dtype: torch.dtype, *, timed: int = _TIMED) -> float:
    """Median CPU milliseconds per frame of a streaming decoder with random weights."""
    vae = CausalVAE(VAEConfig(dim=dim))
    generator = torch.Generator().manual_seed(0)
    initialise_codec(vae, generator)
    decoder = StreamingDecoder(vae, dtype=dtype)
    cells = side // PIXELS_PER_LATENT
    times = []
    for index in range(_WARM_UP + timed):
        latent = torch.randn((1, vae.config.latent_channels, 1, cells, cells), generator=generator)
        started = time.process_time()
        decoder.decode(latent)
        if index >= _WARM_UP:
            times.append(1000 * (time.process_time() - started) / FRAMES_PER_LATENT)
    return statistics.median(times)


def trained_psnr(
    dim: int, side: int, *, budget: Budget, clips: int, runs: Path, device: torch.device
) -> dict[str, float]:
    """Held-out PSNR of a codec after a training of its own, which resumes in its folder under `runs`."""
    data = []
    for held_out in (False, True):
        folder = runs / f"clips_{side}{'_held_out' if held_out else ''}"
        count = 16 if held_out else clips
        generate(folder, DatasetSize(clips=count, frames=65, side=side, held_out=held_out))
        data.append(load(folder))
    stage = CodecStage(CodecSettings(dim=dim, phases=_CROPS), *data, device=device)
    return train(stage, budget, runs / f"dim{dim}_side{side}")


def measure(
    dims: Iterable[int], sides: Iterable[int], *, budget: Budget | None, clips: int, runs: Path, table: Path,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> list[Point]:  # fmt: skip
    """Every point of the grid; one that the CSV file has with the same training is taken from it.

    The file keeps its other points. budget: of each training; None trains none.
    """
    length = (budget.seconds, budget.steps) if budget else (0.0, 0)
    known = {(p.dim, p.side, p.seconds, p.steps): p for p in read_records(table, Point)}
    grid = [(dim, side, *length) for dim, side in itertools.product(dims, sides)]
    for dim, side, *_ in grid:
        if (dim, side, *length) not in known:
            times = [frame_ms(dim, side, dtype) for dtype in (torch.bfloat16, torch.float32)]
            trained = partial(trained_psnr, dim, side, clips=clips, runs=runs, device=device)
            shown = trained(budget=budget) if budget else {}
            point = Point(dim, side, *times, length[0], shown.get("psnr"), shown.get("mouth_psnr"), length[1])
            known[(dim, side, *length)] = point
            write_records(table, Point, known.values())
    return [known[place] for place in grid]


def report(points: list[Point], command: str) -> str:
    """The points as a page: frames per second that decoding alone allows on one thread, and PSNR where trained."""
    lines = [
        "# Codec curve", "", machine(), "", f"Command: `{command}`, one thread; CPU milliseconds per frame.", "",
        "| width | side | bf16 ms | bf16 fps | fp32 ms | fp32 fps | trained | PSNR | mouth PSNR |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for p in points:
        shown = [f"{value:.2f}" if value is not None else "" for value in (p.psnr, p.mouth_psnr)]
        length = f"{p.steps} steps" if p.steps else f"{p.seconds:.0f} s"
        lines.append(
            f"| {p.dim} | {p.side} | {p.bf16_ms:.2f} | {1000 / p.bf16_ms:.0f} | {p.fp32_ms:.2f} | "
            f"{1000 / p.fp32_ms:.0f} | {length} | {shown[0]} | {shown[1]} |"
        )
    return "\n".join(lines) + "\n"


def plots(points: list[Point]) -> list[Plot]:
    """Time against width, and where trained PSNR against time; a line per side."""
    timed, trained = [], []
    for side in sorted({point.side for point in points}):
        of_side = sorted((point for point in points if point.side == side), key=lambda point: point.dim)
        times = [point.bf16_ms for point in of_side]
        shown = [math.nan if point.psnr is None else point.psnr for point in of_side]
        timed.append(Curve(f"{side} pixels", [point.dim for point in of_side], times, markers=True))
        trained.append(Curve(f"{side} pixels", times, shown, markers=True))
    plots = [Plot("Decoding", "width", "bf16 ms per frame", tuple(timed))]
    if any(curve.points for curve in trained):
        plots.append(Plot("Quality", "bf16 ms per frame", "PSNR, dB", tuple(trained)))
    return plots


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[8, 16, 24, 32])
    parser.add_argument("--sides", type=int, nargs="+", default=[96, 128, 160])
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="training time of each point; 0 trains none"
    )
    parser.add_argument("--steps", type=int, default=0, help="of each training, in place of seconds")
    parser.add_argument("--device", default="cpu", help="of the trainings; decoding is timed on the CPU")
    parser.add_argument("--clips", type=int, default=160, help="clips that are drawn for training, per size")
    parser.add_argument("--runs", type=Path, default=Path("runs/codec_curve"))
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/codec_curve"), help="without ending"
    )
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    length = {"steps": given.steps} if given.steps else {"seconds": given.seconds}
    points = measure(
        given.dims, given.sides, budget=Budget(**length) if any(length.values()) else None, clips=given.clips,
        runs=given.runs, table=given.out.with_suffix(".csv"), device=torch.device(given.device),
    )  # fmt: skip
    command = command_of("codec_curve", None)
    draw_sheet(plots(points)).save(given.out.with_suffix(".png"))
    given.out.with_suffix(".md").write_text(report(points, command), encoding="utf-8")


if __name__ == "__main__":
    main()
