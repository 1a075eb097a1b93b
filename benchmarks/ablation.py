"""What each part of the distillation buys: a table in the form of EchoTorrent's table 2, measured here.

Command: python -m talkstream.benchmarks.ablation [--rows full no_sink ...] [--seeds 0 1 2] [--seconds 600]
         [--syncnet runs/syncnet/syncnet] [--runs runs/ablation] [--out benchmarks/results/ablation]
Codec, teacher and causal initialisation are those of the recipes, trained once before. A row is a student's
distillation with one thing changed, at the same budget; rows whose layers see another history are initialised for it
first. In EchoTorrent's form all rows but one are shown by a decoder that was refined for the full row's student of the
first seed. Every student is exported, streams held-out clips of all domains, and is judged on their first and their
last seconds. Every finished measurement is kept in the CSV file; started again, the command goes on, inside a training
too.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..training.config import Recipe, load_recipe
from ..training.export import export_codec
from ..training.measure import JUDGE_CLIPS, Judges, reconstruct
from ..training.plots import Curve, Plot, draw_sheet
from ..training.sampling import load_codec_file, load_mini, sample_frames
from ..training.stages import read_codec
from ..training.train import find_recipe, run
from ..training.world.clips import FPS, Clip
from .ablation_rows import FULL, ROWS, Group, Row, changed_recipe, rows_of
from .held_out import cached_judges, held_out_clips, measure_clips, refined
from .mini_run import machine
from .records import claim_folder, command_of, markdown_table, read_records, write_records
from .spread import Goal, difference, spread

_SHARED = ("train_latents.npz", "held_out_latents.npz", "train_trajectories.npz", "held_out_trajectories.npz")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """What one student of one row showed on the first or the last seconds of the held-out streams.

    Measures as in training.measure.Measures, sharpness over that of the drawn clips.
    """

    row: str
    seed: int
    stretch: str
    sync_c: float | None
    r_open: float
    sharpness: float
    identity: float
    mouth_outside: float
    background: float


@dataclass(frozen=True)
class Column:
    """A measure of the table: field of Score, its head, what is good, digits."""

    name: str
    title: str
    goal: Goal
    digits: int


COLUMNS = (
    Column("sync_c", "Sync-C ↑", "high", 2),
    Column("r_open", "true mouth r ↑", "high", 3),
    Column("sharpness", "image: sharpness → 1", "one", 2),
    Column("identity", "identity: distance ↓", "low", 4),
    Column("mouth_outside", "anatomy: impossible mouths ↓", "low", 3),
    Column("background", "background: distance ↓", "low", 4),
)
BOUNDS = {"drawn": "(drawn clips)", "codec": "(codec alone)"}
STRETCHES = {"first": "the first seconds", "last": "the last seconds"}


@dataclass(frozen=True)
class Bench:
    """What all rows share: recipes by group, budgets, folders, clips, judges.

    first_seed: whose full student the decoder is refined for.
    """

    recipes: dict[Group, Recipe]
    initialisation: Recipe
    refiner: Recipe
    seconds: float
    gpu_steps: int
    init_seconds: float
    refiner_seconds: float
    first_seed: int
    runs: Path
    device: torch.device
    clips: list[Clip]
    stretch_frames: int
    judges: Judges
    codec_file: Path


def train_student(bench: Bench, row: Row, seed: int) -> Path:
    """The exported student of a row and a seed, trained where it is not there yet."""
    file = bench.runs / "students" / f"{row.trained}_{seed}.safetensors"
    if file.exists():
        return file
    recipe = changed_recipe(bench.recipes[row.group], row, seed=seed)
    if row.history is not None:
        recipe = replace(recipe, start=_initialise(bench, row.history))
    folder = bench.runs / row.group
    _lend(bench.recipes[row.group].folder, folder)
    recipe = _with_budget(
        replace(recipe, folder=folder, export_student=file), seconds=bench.seconds, gpu_steps=bench.gpu_steps
    )
    log.info("training row %s, seed %d", row.name, seed)
    run(recipe, device=bench.device)
    if not row.is_full:  # a refiner starts from a full row's checkpoint; the others' would fill the disk
        (folder / recipe.stages[-1].folder / "training.pt").unlink()
    return file


def refine_decoder(bench: Bench) -> Path:
    """The decoder that shows the rows of EchoTorrent's form, refined for the full row's student of the first seed."""
    file = bench.runs / "refiner.safetensors"
    if file.exists():
        return file
    full = next(row for row in ROWS if row.name == FULL["echo"])
    train_student(bench, full, bench.first_seed)
    form = bench.recipes["echo"]
    folder = bench.runs / "refiner"
    _lend(bench.runs / full.group, folder)
    recipe = replace(
        bench.refiner, folder=folder, export_refiner=file, form=form.form, sink=form.sink, history=form.history,
        start=bench.runs / full.group / f"{full.name}_{bench.first_seed}",
    )  # fmt: skip
    log.info("refining the decoder")
    run(_with_budget(recipe, seconds=bench.refiner_seconds, gpu_steps=bench.gpu_steps), device=bench.device)
    return file


def _initialise(bench: Bench, history: tuple[int, ...]) -> Path:
    """A finished causal initialisation of layers with this history: the folder of its last stage."""
    name = "_".join(str(latents) for latents in history)
    folder = bench.runs / f"init_{name}"
    recipe = bench.initialisation
    last = folder / recipe.stages[-1].folder
    if (last / "finished").exists():
        return last
    _lend(recipe.folder, folder)
    recipe = replace(recipe, folder=folder, history=history)
    log.info("initialising layers with a history of %s", history)
    run(_with_budget(recipe, seconds=bench.init_seconds, gpu_steps=bench.gpu_steps), device=bench.device)
    (last / "finished").touch()
    return last


def _with_budget(recipe: Recipe, *, seconds: float, gpu_steps: int) -> Recipe:
    """Every stage of a recipe at this budget."""
    parts = [
        replace(p, cpu=replace(p.cpu, seconds=seconds, steps=0), gpu=replace(p.gpu, seconds=0.0, steps=gpu_steps))
        for p in recipe.stages
    ]  # fmt: skip
    return replace(recipe, stages=tuple(parts))


def _lend(source: Path, target: Path) -> None:
    """Copy encoded clips and trajectories that an earlier run has made of the same data."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        if (source / name).exists() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)


def judge_student(bench: Bench, row: Row, seed: int, file: Path) -> list[Score]:
    """Scores on both stretches. A student streams every clip once, from the clip's first frame and its speech."""
    mini = load_mini(file, bench.codec_file)
    if row.refined:
        mini = replace(mini, vae=refined(mini.vae, refine_decoder(bench)))
    frames = len(bench.clips[0].frames)
    made = [
        sample_frames(mini, clip.samples, clip.frames[0], frames=frames, seed=index)
        for index, clip in enumerate(bench.clips)
    ]
    return _judge(bench, row.name, seed, made)


def judge_bounds(bench: Bench) -> list[Score]:
    """Scores of the drawn clips themselves and of what the codec alone makes of them: what rows can reach at best."""
    vae = load_codec_file(bench.codec_file)
    drawn = [np.asarray(clip.frames) for clip in bench.clips]
    shown = [reconstruct(vae, frames) for frames in drawn]
    return [
        score
        for name, made in zip(BOUNDS, (drawn, shown), strict=True)
        for score in _judge(bench, name, 0, made)
    ]


def _judge(bench: Bench, row: str, seed: int, made: list[np.ndarray]) -> list[Score]:
    """Scores of what was made for the clips, on both stretches."""
    scores = []
    for stretch, first in (("first", 0), ("last", len(made[0]) - bench.stretch_frames)):
        part = slice(first, first + bench.stretch_frames)
        m = measure_clips(bench.clips, made, bench.judges, stretch=part)
        scores.append(
            Score(
                row, seed, stretch, m.sync_c, m.r_open, m.sharpness, m.identity, m.mouth_outside, m.background
            )
        )
    return scores


def run_rows(bench: Bench, rows: Sequence[Row], seeds: Sequence[int], table: Path) -> list[Score]:
    """Train and judge what the CSV file lacks, row by row; returns all of the file."""
    scores = read_records(table, Score)
    if not scores:
        scores = judge_bounds(bench)
        write_records(table, Score, scores)
    for row in rows:
        for seed in seeds:
            if any((s.row, s.seed) == (row.name, seed) for s in scores):
                continue
            scores += judge_student(bench, row, seed, train_student(bench, row, seed))
            write_records(table, Score, scores)
    return scores


def _values(scores: Sequence[Score], row: str, stretch: str, column: Column) -> list[float]:
    """One number per seed; none where it was not measured."""
    found = [getattr(s, column.name) for s in scores if (s.row, s.stretch) == (row, stretch)]
    return [value for value in found if value is not None]


def table_of(scores: Sequence[Score], group: Group, stretch: str) -> str:
    """Mean and spread over seeds of a group's rows, then what they can reach at best."""
    body = []
    titles = {row.name: row.title for row in ROWS if row.group == group} | BOUNDS
    for name, title in titles.items():
        columns = [_values(scores, name, stretch, column) for column in COLUMNS]
        if any(columns):
            cells = [spread(v).text(c.digits) if v else "" for v, c in zip(columns, COLUMNS, strict=True)]
            seeds = "" if name in BOUNDS else str(max(len(v) for v in columns))
            body.append([title, *cells, seeds])
    return markdown_table(["row", *(column.title for column in COLUMNS), "seeds"], body)


def verdicts(scores: Sequence[Score], row: Row, stretch: str) -> str:
    """One sentence on what the part that a row leaves out brings, from difference against spread."""
    told: dict[str, list[str]] = {}
    for column in COLUMNS:
        full, without = (_values(scores, name, stretch, column) for name in (FULL[row.group], row.name))
        if full and without:
            mark = "*" if column.name in row.buys else ""
            told.setdefault(difference(full, without, goal=column.goal).verdict, []).append(
                column.title.rstrip(" ↑↓→1") + mark
            )
    parts = [f"{verdict}: {', '.join(names)}" for verdict, names in told.items()]
    return f"- **{row.title}**, {STRETCHES[stretch]}: the part {'; '.join(parts)}."


def report(scores: Sequence[Score], *, command: str, clips: int, about: str) -> str:
    """The page: both groups' tables on both stretches, then what each part brings."""
    lines = [
        "# Ablation", "", f"{machine()}.", "", f"Command: `{command}`.", "",
        f"{clips} held-out clips of all domains, {about}. Mean ± sample deviation over seeds. A part helps or hurts "
        "where its difference is at least two standard errors; with one seed nothing is claimed. A star marks what the "
        "part is said to improve.", "", "![rows](ablation.png)", "",
    ]  # fmt: skip
    for group, title in (("echo", "EchoTorrent's form"), ("lip", "Lip Forcing's form")):
        rows = [row for row in ROWS if row.group == group and any(s.row == row.name for s in scores)]
        if not rows:
            continue
        lines += [f"## {title}", ""]
        for stretch, words in STRETCHES.items():
            lines += [f"On {words} of each stream:", "", table_of(scores, group, stretch)]
        lines += [verdicts(scores, r, s) for r in rows if not r.is_full for s in STRETCHES]
        lines.append("")
    return "\n".join(lines)


def draw(scores: Sequence[Score], path: Path) -> None:
    """A plot per measure: rows along x in the table's order, both stretches."""
    rows = [row for row in ROWS if any(s.row == row.name for s in scores)]
    plots = []
    for column in COLUMNS:
        curves = []
        for stretch, words in STRETCHES.items():
            values = [_values(scores, row.name, stretch, column) for row in rows]
            places = [i + 1 for i, v in enumerate(values) if v]
            curves.append(Curve(words, places, [spread(v).mean for v in values if v], markers=True))
        if curves[0].points:
            plots.append(Plot(column.title, "row of the tables, from above", "", tuple(curves)))
    draw_sheet(plots).save(path)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--rows", nargs="+", default=[row.name for row in ROWS], help="by name; all of them")
    top.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2],
                     help="the first one's full student is what the decoder is refined for")  # fmt: skip
    top.add_argument("--seconds", type=float, default=600.0, help="of each row's training on a CPU")
    top.add_argument("--gpu-steps", type=int, default=2000, help="of each row's training on a GPU")
    top.add_argument("--init-seconds", type=float, default=600.0,
                     help="of each stage of an initialisation of a row's own")  # fmt: skip
    top.add_argument("--echo-recipe", type=Path, default=Path("recipes/distil_echo.yaml"))
    top.add_argument("--lip-recipe", type=Path, default=Path("recipes/distil.yaml"))
    top.add_argument("--init-recipe", type=Path, default=Path("recipes/causal_init_echo.yaml"))
    top.add_argument("--refiner-recipe", type=Path, default=Path("recipes/ablation_refiner.yaml"))
    top.add_argument("--refiner-seconds", type=float, default=900.0, help="of the decoder's refinement")
    top.add_argument("--syncnet", type=Path, help="folder of a finished syncnet stage, for Sync-C")
    top.add_argument("--per-domain", type=int, default=2, help="held-out clips of each domain")
    top.add_argument("--stream-frames", type=int, default=501, help="of each held-out clip")
    top.add_argument("--stretch-frames", type=int, default=125, help="judged at its start and at its end")
    top.add_argument("--judge-clips", type=int, default=JUDGE_CLIPS, help="clips that the judges learn from")
    top.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    top.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="trainings and students")
    top.add_argument("--out", type=Path, default=Path("benchmarks/results/ablation"), help="a folder")
    return top


def check_lengths(given: argparse.Namespace) -> None:
    """Raises ValueError for a stretch longer than the stream, and for a stream that no codec takes whole."""
    if given.stretch_frames > given.stream_frames:
        raise ValueError(
            f"--stretch-frames is {given.stretch_frames} of a stream of {given.stream_frames}; give at most that"
        )
    if given.stream_frames % 4 != 1:
        raise ValueError(
            f"--stream-frames is {given.stream_frames}; give 1 more than a multiple of 4, as codecs need"
        )


def open_bench(given: argparse.Namespace, rows: Sequence[Row]) -> Bench:
    """Recipes, clips and judges from the command line."""
    paths = {"echo": given.echo_recipe, "lip": given.lip_recipe}
    recipes = {row.group: load_recipe(find_recipe(paths[row.group])) for row in rows}
    first = next(iter(recipes.values()))
    side = first.held_out.side
    codec_file = given.runs / "codec.safetensors"
    if not codec_file.exists():
        export_codec(codec_file, read_codec(first.codec), dtype=torch.float32)
    clips = held_out_clips(
        given.runs / "clips", per_domain=given.per_domain, frames=given.stream_frames, side=side
    )
    judges = cached_judges(
        given.runs, load_codec_file(codec_file), clips=given.judge_clips, side=side,
        syncnet=given.syncnet,
    )  # fmt: skip
    initialisation, refiner = (load_recipe(find_recipe(p)) for p in (given.init_recipe, given.refiner_recipe))
    return Bench(
        recipes, initialisation, refiner, given.seconds, given.gpu_steps, given.init_seconds, given.refiner_seconds,
        given.seeds[0], given.runs, torch.device(given.device), clips, given.stretch_frames, judges, codec_file,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    rows = rows_of(given.rows)
    check_lengths(given)
    about = {k: v for k, v in vars(given).items() if k not in ("rows", "seeds", "runs", "out")}
    about["first_seed"] = given.seeds[0]
    claim_folder(given.out, about)
    claim_folder(given.runs, about)
    bench = open_bench(given, rows)
    scores = run_rows(bench, rows, given.seeds, given.out / "ablation.csv")
    draw(scores, given.out / "ablation.png")
    seconds = f"{given.stretch_frames / FPS:g} of {given.stream_frames / FPS:.1f} s each"
    trained = f"{given.seconds:g} s" if given.device == "cpu" else f"{given.gpu_steps} steps"
    command = command_of("ablation", arguments)
    page = report(
        scores, command=command, clips=len(bench.clips), about=f"{seconds}; {trained} of training a row"
    )
    (given.out / "ablation.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
