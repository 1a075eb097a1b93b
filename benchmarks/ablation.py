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
from ..training.metrics import read_rows
from ..training.sampling import load_codec_file, load_mini, sample_frames
from ..training.stages import read_codec
from ..training.train import find_recipe, run
from ..training.world.clips import FPS, Clip
from .ablation_page import BOUNDS, Score, draw, report
from .ablation_rows import FULL, ROWS, Group, Row, changed_recipe, rows_of
from .held_out import cached_judges, held_out_clips, measure_clips, refined
from .needs import require_stages, stages_of
from .records import claim_folder, command_of, read_records, write_records

_SHARED = ("train_latents.npz", "held_out_latents.npz", "train_trajectories.npz", "held_out_trajectories.npz")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bench:
    """What all rows share: recipes by group, budgets, folders, clips, judges.

    first_seed: whose full student the decoder is refined for. steps: updates of every training, in place of seconds
    where it is not 0.
    """

    recipes: dict[Group, Recipe]
    initialisation: Recipe
    refiner: Recipe
    seconds: float
    init_seconds: float
    refiner_seconds: float
    steps: int
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
        replace(recipe, folder=folder, export_student=file), seconds=bench.seconds, steps=bench.steps
    )
    log.info("training row %s, seed %d", row.name, seed)
    run(recipe, device=bench.device)
    require_learning(row, recipe, file)
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
    run(_with_budget(recipe, seconds=bench.refiner_seconds, steps=bench.steps), device=bench.device)
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
    run(_with_budget(recipe, seconds=bench.init_seconds, steps=bench.steps), device=bench.device)
    (last / "finished").touch()
    return last


def _with_budget(recipe: Recipe, *, seconds: float, steps: int) -> Recipe:
    """Every stage of a recipe at this budget: steps, or seconds where there are none."""
    size = {"seconds": 0.0 if steps else seconds, "steps": steps}
    parts = [replace(p, cpu=replace(p.cpu, **size), gpu=replace(p.gpu, **size)) for p in recipe.stages]
    return replace(recipe, stages=tuple(parts))


def require_learning(row: Row, recipe: Recipe, file: Path) -> None:
    """Remove a student that no update has reached. Raises ValueError for it: it is where it started."""
    part = recipe.stages[-1]
    steps = int(read_rows(recipe.folder / part.folder / "metrics.csv")[-1]["step"])
    if steps <= part.settings.critic_warmup:
        file.unlink()
        raise ValueError(
            f"row {row.name} came to {steps} steps, and its student learns from step {part.settings.critic_warmup + 1} "
            "on (critic_warmup); raise --seconds or --steps, or lower critic_warmup in the recipe"
        )


def _lend(source: Path, target: Path) -> None:
    """Copy encoded clips and trajectories that an earlier run has made of the same data."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        if (source / name).exists() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)


def judge_student(bench: Bench, row: Row, seed: int, file: Path) -> list[Score]:
    """Scores on both stretches. A student streams every clip once, from the clip's first frame and its speech."""
    mini = load_mini(file, bench.codec_file, device=bench.device)
    if row.refined:
        mini = replace(mini, vae=refined(mini.vae, refine_decoder(bench)).to(bench.device))
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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--rows", nargs="+", default=[row.name for row in ROWS], help="by name; all of them")
    top.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2],
                     help="the first one's full student is what the decoder is refined for")  # fmt: skip
    top.add_argument("--seconds", type=float, default=600.0, help="of each row's training")
    top.add_argument("--steps", type=int,
                     help="of every training, in place of seconds; 2000 on a GPU")  # fmt: skip
    top.add_argument("--init-seconds", type=float, default=600.0,
                     help="of each stage of an initialisation of a row's own")  # fmt: skip
    top.add_argument("--echo-recipe", type=Path, default=Path("recipes/distil_echo.yaml"))
    top.add_argument("--lip-recipe", type=Path, default=Path("recipes/distil_lip.yaml"))
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


def read_recipes(
    given: argparse.Namespace, rows: Sequence[Row]
) -> tuple[dict[Group, Recipe], Recipe, Recipe]:
    """The distillations by group, the initialisation, the refiner. Raises FileNotFoundError for what must be trained
    before.
    """
    paths = {"echo": given.echo_recipe, "lip": given.lip_recipe}
    recipes = {row.group: load_recipe(find_recipe(paths[row.group])) for row in rows}
    initialisation, refiner = (load_recipe(find_recipe(p)) for p in (given.init_recipe, given.refiner_recipe))
    needed = [folder for recipe in recipes.values() for folder in stages_of(recipe)]
    if any(row.history is not None for row in rows):
        needed += stages_of(initialisation)
    if any(row.refined for row in rows):
        needed += stages_of(replace(refiner, start=None))
    require_stages(needed)
    return recipes, initialisation, refiner


def open_bench(
    given: argparse.Namespace, recipes: dict[Group, Recipe], initialisation: Recipe, refiner: Recipe
) -> Bench:
    """Clips and judges from the command line, beside the recipes."""
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
    return Bench(
        recipes, initialisation, refiner, given.seconds, given.init_seconds, given.refiner_seconds, given.steps,
        given.seeds[0], given.runs, torch.device(given.device), clips, given.stretch_frames, judges, codec_file,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    rows = rows_of(given.rows)
    check_lengths(given)
    if given.steps is None:
        given.steps = 0 if given.device == "cpu" else 2000
    recipes = read_recipes(given, rows)
    about = {k: v for k, v in vars(given).items() if k not in ("rows", "seeds", "runs", "out")}
    about["first_seed"] = given.seeds[0]
    claim_folder(given.out, about)
    claim_folder(given.runs, about)
    bench = open_bench(given, *recipes)
    scores = run_rows(bench, rows, given.seeds, given.out / "ablation.csv")
    draw(scores, given.out / "ablation.png")
    seconds = f"{given.stretch_frames / FPS:g} of {given.stream_frames / FPS:.1f} s each"
    trained = f"{given.steps} steps" if given.steps else f"{given.seconds:g} s"
    command = command_of("ablation", arguments)
    page = report(
        scores, command=command, clips=len(bench.clips), about=f"{seconds}; {trained} of training a row"
    )
    (given.out / "ablation.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
