"""What audio guidance buys and costs along a teacher's trajectory, after the analysis of the Lip Forcing paper.

Command: python -m talkstream.benchmarks.trade_off --teacher runs/v1_sft/sft
         --codec assets/vae/talkstream_mini_vae.safetensors [--syncnet runs/syncnet/syncnet]
         [--out benchmarks/results/trade_off]
The teacher goes unguided from noise to a clip in 50 Euler steps of a schedule with shift 5. At some of its steps its
prediction of the clean clip is decoded and judged, as it is and guided by 4.5. Then the same with two Euler steps, one
from noise to a level and one from there to the end, either of them guided or not. Every finished row is kept in the
CSV file; started again, the command goes on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..networks.causal_vae import CausalVAE
from ..samplers.flow_matching import velocity_from_x0
from ..samplers.guidance import Guidance
from ..samplers.schedule import Schedule, shifted_sigmas
from ..training.data import Batch
from ..training.measure import JUDGE_CLIPS, Judges
from ..training.mini import NETWORK
from ..training.picture_measures import psnr_of
from ..training.plots import Curve, Plot, draw_sheet
from ..training.prediction import Predictions, predict_both
from ..training.sampling import decode_frames
from ..training.stages import read_codec, read_network
from ..training.teacher_sampling import Teacher, sample_window
from ..training.world.clips import Clip
from .held_out import batch_of, bound_sentence, cached_judges, held_out_clips, measure_clips
from .mini_run import machine
from .needs import require_stages
from .records import claim_folder, command_of, markdown_table, read_records, write_records

STEPS, SHIFT = 50, 5.0
WINDOW_IN_PAPER = (0.556, 0.882)
_SHARE = 0.5  # the band is where guidance brings at least half of the most it brings anywhere
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """Means over the clips of one kind of prediction.

    part: trajectory or two_steps. step, level: where the prediction was made, or where the first step landed. first,
    second: guidance of the way there and of the prediction. psnr_outside: dB to the drawn clip outside its mouths.
    identity, background: distances to the portrait. The rest as in training.measure.Measures.
    """

    part: str
    step: int
    level: float
    first: float
    second: float
    r_open: float
    sync_c: float | None
    psnr_outside: float
    identity: float
    background: float
    sharpness: float

    @property
    def place(self) -> tuple[str, int, float, float]:
        """What the row is of."""
        return self.part, self.step, self.first, self.second


@dataclass(frozen=True)
class Band:
    """Levels low..high in which guidance brings at least half of the largest gain, and the level of that gain."""

    low: float
    high: float
    peak: float
    gain: float


@dataclass(frozen=True)
class Probe:
    """Whose predictions are judged, on what and by whom."""

    teacher: Teacher
    vae: CausalVAE
    clips: list[Clip]
    batch: Batch
    judges: Judges

    @property
    def places(self) -> range:
        """Latents of the window, from the clip's start."""
        return range(self.batch.latents.shape[2])

    def predict(self, x: Tensor, level: float) -> Predictions:
        """With and without speech, under the clips' captions."""
        sigma = x.new_full((len(x),), level)
        text = self.teacher.text(self.batch)
        with torch.no_grad():
            return predict_both(self.teacher.network, x, sigma, self.batch, self.places, text_BMD=text)

    def judge(self, x0: Tensor, *, part: str, step: int, level: float, first: float, second: float) -> Row:
        """Decode and measure clean predictions."""
        made = [np.concatenate(list(decode_frames(self.vae, one))) for one in x0.split(1)]
        m = measure_clips(self.clips, made, self.judges, stretch=slice(0, made[0].shape[0]))
        psnr = np.mean([outside_psnr(f, c) for f, c in zip(made, self.clips, strict=True)])
        return Row(
            part, step, level, first, second, m.r_open, m.sync_c, float(psnr), m.identity, m.background,
            m.sharpness,
        )  # fmt: skip


def outside_psnr(frames: np.ndarray, clip: Clip) -> float:
    """PSNR in dB of generated frames (F, H, W, 3) to the drawn ones, but for each frame's mouth box."""
    height, width = frames.shape[1:3]
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    outside = np.ones(frames.shape[:3], bool)
    for mask, (centre_x, centre_y, half_width, half_height) in zip(outside, clip.place, strict=False):
        rows, columns = np.abs(y - centre_y) < half_height, np.abs(x - centre_x) < half_width
        mask[np.ix_(rows, columns)] = False
    return psnr_of(frames[outside], np.asarray(clip.frames[: len(frames)])[outside])


def find_band(levels: Sequence[float], gains: Sequence[float]) -> Band | None:
    """The unbroken run of levels around the largest gain; None where guidance gains nothing anywhere."""
    order = np.argsort(levels)
    at, gain = np.asarray(levels, float)[order], np.asarray(gains, float)[order]
    peak = int(gain.argmax())
    if gain[peak] <= 0:
        return None
    low = high = peak
    while low > 0 and gain[low - 1] >= _SHARE * gain[peak]:
        low -= 1
    while high < len(at) - 1 and gain[high + 1] >= _SHARE * gain[peak]:
        high += 1
    return Band(float(at[low]), float(at[high]), float(at[peak]), float(gain[peak]))


class Table:
    """Rows that are kept in a CSV file as they are made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = read_records(path, Row)

    def missing(self, part: str, step: int, first: float, second: float) -> bool:
        """Whether a row is still to be made."""
        return (part, step, first, second) not in {row.place for row in self.rows}

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.rows.append(row)
        write_records(self._path, Row, self.rows)
        log.info("%s step %d, guidance %g then %g: r %.3f", *row.place, row.r_open)


def run_trajectory(probe: Probe, table: Table, *, grid: Sequence[int], scale: float, seed: int) -> None:
    """Judge the unguided trajectory's predictions at these steps, plain and guided."""
    wanted = [j for j in grid if any(table.missing("trajectory", j, 1.0, s) for s in (1.0, scale))]
    if not wanted:
        return
    inputs: dict[int, Tensor] = {}

    def remember(step: int, x: Tensor) -> None:
        if step in wanted:
            inputs[step] = x.clone()

    schedule = Schedule.from_sigmas(shifted_sigmas(STEPS, SHIFT))
    sample_window(
        probe.teacher, probe.batch, probe.places, schedule=schedule, noise=_noise(probe, seed),
        on_input=remember,
    )  # fmt: skip
    for step in wanted:
        level = schedule.sigmas[step]
        both = probe.predict(inputs[step], level)
        for second in (1.0, scale):
            if table.missing("trajectory", step, 1.0, second):
                table.add(
                    probe.judge(
                        both.guided(second), part="trajectory", step=step, level=level, first=1.0, second=second
                    )
                )  # fmt: skip


def run_two_steps(probe: Probe, table: Table, *, grid: Sequence[int], scale: float, seed: int) -> None:
    """Judge two Euler steps, from noise to a level and from there to the end: each guided or not."""
    sigmas = shifted_sigmas(STEPS, SHIFT)
    noise, start = _noise(probe, seed), sigmas[0]
    opening: Predictions | None = None
    for step in grid:
        for first in (1.0, scale):
            if not any(table.missing("two_steps", step, first, second) for second in (1.0, scale)):
                continue
            opening = opening or probe.predict(noise, start)
            velocity = velocity_from_x0(noise, opening.guided(first), start)
            both = probe.predict(noise + (sigmas[step] - start) * velocity, sigmas[step])
            for second in (1.0, scale):
                if table.missing("two_steps", step, first, second):
                    table.add(
                        probe.judge(
                            both.guided(second), part="two_steps", step=step, level=sigmas[step], first=first,
                            second=second,
                        )
                    )  # fmt: skip


def _noise(probe: Probe, seed: int) -> Tensor:
    """The trajectory's and the two steps' common start."""
    return torch.randn(probe.batch.latents.shape, generator=torch.Generator().manual_seed(seed))


def _sync(row: Row) -> float:
    """Sync-C where a SyncNet judged, else the mouth's correlation."""
    return row.r_open if row.sync_c is None else row.sync_c


def _curve(label: str, rows: Sequence[Row], value: Callable[[Row], float]) -> Curve:
    return Curve(label, [row.level for row in rows], [value(row) for row in rows], markers=True)


_FIDELITY: tuple[tuple[str, Callable[[Row], float]], ...] = (
    ("PSNR outside the mouth, dB", lambda row: row.psnr_outside),
    ("distance to the portrait's head", lambda row: row.identity),
    ("distance to the portrait's background", lambda row: row.background),
)


def _select(rows: Sequence[Row], part: str, first: float, second: float) -> list[Row]:
    return sorted(
        (row for row in rows if (row.part, row.first, row.second) == (part, first, second)),
        key=lambda row: row.level,
    )


def draw_plots(rows: Sequence[Row], scale: float, folder: Path) -> None:
    """trajectory.png and two_steps.png: sync and fidelity over the noise level t."""
    shown: list[tuple[str, Callable[[Row], float]]] = [("true mouth: r", lambda row: row.r_open)]
    if all(row.sync_c is not None for row in rows):
        shown.append(("Sync-C", _sync))
    kinds = {
        "trajectory": (("without guidance", 1.0, 1.0), (f"guided by {scale:g}", 1.0, scale)),
        "two_steps": tuple(
            (f"{first:g} then {second:g}", first, second) for first in (1.0, scale) for second in (1.0, scale)
        ),
    }
    x_label = {
        "trajectory": "noise level t of the prediction",
        "two_steps": "level t where the first step lands",
    }
    for part, curves in kinds.items():
        plots = [
            Plot(title, x_label[part], "", tuple(_curve(n, _select(rows, part, a, b), value) for n, a, b in curves))
            for title, value in (*shown, *_FIDELITY)
        ]  # fmt: skip
        draw_sheet(plots).save(folder / f"{part}.png")


def report(rows: Sequence[Row], *, scale: float, about: str, command: str) -> str:
    """The page: both tables, where the band lies, and what guidance costs in it and outside it."""
    plain, guided = (_select(rows, "trajectory", 1.0, s) for s in (1.0, scale))
    name = "Sync-C" if all(row.sync_c is not None for row in rows) else "r"
    gains = [_sync(g) - _sync(p) for p, g in zip(plain, guided, strict=True)]
    lines = [
        "# The trade-off of guidance along the teacher's trajectory", "", f"{machine()}.", "",
        f"Command: `{command}`. {STEPS} Euler steps, shift {SHIFT:g}, guidance {scale:g}. {about}", "",
        _band_sentence(plain, guided, gains, name), "",
        "![trajectory](trajectory.png)", "", _table(plain + guided), "## Two Euler steps", "",
        "![two steps](two_steps.png)", "", _table([row for row in rows if row.part == "two_steps"]),
    ]  # fmt: skip
    return "\n".join(lines)


def _band_sentence(plain: list[Row], guided: list[Row], gains: list[float], name: str) -> str:
    band = find_band([row.level for row in plain], gains)
    if band is None:
        return f"Guidance raises {name} at no level that was looked at: here is no sync band."
    costs = [p.psnr_outside - g.psnr_outside for p, g in zip(plain, guided, strict=True)]
    inside = [band.low <= row.level <= band.high for row in plain]
    means = [np.mean([c for c, i in zip(costs, inside, strict=True) if i == want]) if want in inside else np.nan
             for want in (True, False)]  # fmt: skip
    return (
        f"Guidance raises {name} most at t = {band.peak:.3f}, by {band.gain:.3f}; it brings at least half of that for "
        f"t in [{band.low:.3f}, {band.high:.3f}] (Lip Forcing: [{WINDOW_IN_PAPER[0]}, {WINDOW_IN_PAPER[1]}]). It costs "
        f"{means[0]:+.2f} dB outside the mouth in that band and {means[1]:+.2f} dB elsewhere."
    )


def _table(rows: Sequence[Row]) -> str:
    head = ("step", "t", "guidance", "r", "Sync-C", "PSNR outside", "identity", "background", "sharpness")
    cells = [
        (
            str(r.step), f"{r.level:.3f}", f"{r.first:g}, {r.second:g}" if r.part == "two_steps" else f"{r.second:g}",
            f"{r.r_open:.3f}", "" if r.sync_c is None else f"{r.sync_c:.2f}", f"{r.psnr_outside:.2f}",
            f"{r.identity:.4f}", f"{r.background:.4f}", f"{r.sharpness:.2f}",
        )
        for r in sorted(rows, key=lambda r: (r.part, r.step, r.first, r.second))
    ]  # fmt: skip
    return markdown_table(head, cells)


def measure_all(probe: Probe, table: Table, *, grid: Sequence[int], scale: float, seed: int) -> list[Row]:
    """Both parts; rows that are there are not made again."""
    run_trajectory(probe, table, grid=grid, scale=scale, seed=seed)
    run_two_steps(probe, table, grid=[j for j in grid if j], scale=scale, seed=seed)
    return table.rows


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--teacher", type=Path, required=True, help="folder of a finished teacher stage")
    top.add_argument("--codec", type=Path, required=True, help="exported file, or folder of a codec recipe")
    top.add_argument("--syncnet", type=Path, help="folder of a finished syncnet stage, for Sync-C")
    top.add_argument("--steps", type=int, nargs="+", default=list(range(0, 50, 5)) + [47, 49],
                     help="steps j of 50 that are judged")  # fmt: skip
    top.add_argument("--scale", type=float, default=4.5, help="audio guidance")
    top.add_argument("--latents", type=int, default=9, help="of a window: as many as the teacher learnt on")
    top.add_argument("--per-domain", type=int, default=4, help="clips of each domain")
    top.add_argument("--side", type=int, default=128)
    top.add_argument("--judge-clips", type=int, default=JUDGE_CLIPS, help="clips that the judges learn from")
    top.add_argument("--seed", type=int, default=0, help="of the noise")
    top.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="held-out clips and judges")
    top.add_argument("--out", type=Path, default=Path("benchmarks/results/trade_off"), help="a folder")
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    require_stages([given.teacher])
    settings = {name: value for name, value in vars(given).items() if name not in ("steps", "runs", "out")}
    claim_folder(given.out, settings)
    frames = 4 * given.latents - 3
    vae = read_codec(given.codec)
    clips = held_out_clips(given.runs / "clips", per_domain=given.per_domain, frames=frames, side=given.side)
    judges = cached_judges(given.runs, vae, clips=given.judge_clips, side=given.side, syncnet=given.syncnet)
    teacher = Teacher(read_network(given.teacher, NETWORK).eval().requires_grad_(False), guidance=Guidance())
    probe = Probe(teacher, vae, clips, batch_of(clips, vae, latents=given.latents), judges)
    rows = measure_all(
        probe, Table(given.out / "trade_off.csv"), grid=given.steps, scale=given.scale, seed=given.seed
    )
    draw_plots(rows, given.scale, given.out)
    command = command_of("trade_off", arguments)
    about = f"{len(clips)} held-out clips of {frames} frames. {bound_sentence(clips, judges)}"
    page = report(rows, scale=given.scale, about=about, command=command)
    (given.out / "trade_off.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
