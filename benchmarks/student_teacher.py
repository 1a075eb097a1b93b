"""A student beside the teacher that it was distilled from: calls, frames per second and sync, in one run.

Command: python -m talkstream.benchmarks.student_teacher --student FILE --teacher runs/v1_teacher/teacher
         --codec FILE [--syncnet runs/syncnet/syncnet] [--out benchmarks/results/student_teacher]
Both make the same held-out clips from the same portraits and speech, clip by clip in turn, so that other work on the
machine slows both. The student streams as in training, chunk after chunk; the teacher makes the whole window at once.
Both compute in bfloat16 autocast. Frames per second are of the latents alone, and with the decoder, which is the same.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..networks.causal_vae import CausalVAE
from ..samplers.guidance import Guidance
from ..training.measure import JUDGE_CLIPS, Measures
from ..training.mini import NETWORK
from ..training.plots import Curve, Plot, draw_sheet
from ..training.sampling import Mini, decode_frames, load_mini, portrait_condition, sample_latents
from ..training.stages import read_network
from ..training.student import TrainableStudent
from ..training.teacher_sampling import Teacher, TeacherSampling, sample_window
from ..training.world.clips import Clip
from .held_out import batch_of, bound_sentence, cached_judges, held_out_clips, measure_clips
from .mini_run import machine
from .needs import require_stages
from .records import claim_folder, command_of, markdown_table, read_records, write_records

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Take:
    """One clip by one of the two. calls: of the network, a clean-context pass too. seconds: wall clock for the latents
    and for decoding them.
    """

    who: str
    clip: int
    chunks: int
    frames: int
    calls: int
    latent_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Result:
    """One of the two over all clips. fps: of the latents alone, and decoded."""

    who: str
    steps: int
    guidance: str
    calls_per_chunk: float
    latent_fps: float
    fps: float
    r_open: float
    sync_c: float | None
    sharpness: float
    identity: float
    background: float


@contextmanager
def counted_calls(network: TrainableStudent) -> Iterator[list[int]]:
    """Counts the calls of a network in its one entry."""
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    hook = network.register_forward_pre_hook(count)
    yield calls
    hook.remove()


def take(
    who: str, clip: int, network: TrainableStudent, vae: CausalVAE, make: Callable[[], Tensor], *, chunk: int
) -> tuple[Take, np.ndarray]:
    """Make latents, decode them, with calls and times."""
    with counted_calls(network) as calls:
        started = time.perf_counter()
        latents = make()
        made = time.perf_counter()
    frames = np.concatenate(list(decode_frames(vae, latents)))
    decoded = time.perf_counter()
    row = Take(who, clip, latents.shape[2] // chunk, len(frames), calls[0], made - started, decoded - made)
    return row, frames


def run_pair(
    mini: Mini, teacher: Teacher, sampling: TeacherSampling, clips: list[Clip], *, latents: int, kept: Path
) -> list[Take]:
    """Every clip by both; what the folder has is not made again."""
    rows = read_records(kept / "takes.csv", Take)
    chunk, frames = mini.profile.chunk, 4 * latents - 3
    for index in range(len({row.clip for row in rows}), len(clips)):
        clip = clips[index]
        batch = batch_of([clip], mini.vae, latents=latents)
        condition = portrait_condition(mini, clip.frames[0])
        noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(index))

        def student(clip: Clip = clip, seed: int = index, condition: object = condition) -> Tensor:
            return sample_latents(mini, clip.samples, condition, frames=frames, seed=seed)

        def wide(batch: object = batch, noise: Tensor = noise) -> Tensor:
            return sample_window(teacher, batch, range(latents), schedule=sampling.schedule(), noise=noise)

        made = [
            take("student", index, mini.student, mini.vae, student, chunk=chunk),
            take("teacher", index, teacher.network, mini.vae, wide, chunk=chunk),
        ]
        for row, pictures in made:
            np.save(kept / f"{row.who}_{index}.npy", pictures[:frames])
        rows += [row for row, _ in made]
        write_records(kept / "takes.csv", Take, rows)
        log.info("clip %d: student %.1f s, teacher %.1f s", index, *(row.latent_seconds for row, _ in made))
    return rows


def result(who: str, steps: int, guidance: str, rows: Sequence[Take], m: Measures) -> Result:
    """Sums over the clips of one of the two, and what was measured of them."""
    own = [row for row in rows if row.who == who]
    frames = sum(row.frames for row in own)
    latent = sum(row.latent_seconds for row in own)
    whole = latent + sum(row.decode_seconds for row in own)
    calls = sum(row.calls for row in own) / sum(row.chunks for row in own)
    return Result(
        who, steps, guidance, calls, frames / latent, frames / whole, m.r_open, m.sync_c, m.sharpness, m.identity,
        m.background,
    )  # fmt: skip


def report(student: Result, teacher: Result, *, about: str, command: str) -> str:
    """The page: both side by side, and what the student keeps."""
    rows = [
        ("steps", str(student.steps), str(teacher.steps), ""),
        ("guidance", student.guidance, teacher.guidance, ""),
        _row("network calls per chunk", student, teacher, lambda r: r.calls_per_chunk, 1),
        _row("frames per second, latents alone", student, teacher, lambda r: r.latent_fps, 2),
        _row("frames per second, decoded", student, teacher, lambda r: r.fps, 2),
        _row("true mouth: r", student, teacher, lambda r: r.r_open, 3),
        _row("sharpness over the drawn", student, teacher, lambda r: r.sharpness, 2),
        _row("distance to the portrait's head", student, teacher, lambda r: r.identity, 4),
        _row("distance to the portrait's background", student, teacher, lambda r: r.background, 4),
    ]
    if student.sync_c is not None and teacher.sync_c is not None:
        rows.insert(6, _row("Sync-C", student, teacher, lambda r: r.sync_c, 2))
    table = markdown_table(("", "student", "teacher", "student / teacher"), rows)
    return (
        f"# Student against teacher\n\n{machine()}.\n\nCommand: `{command}`. {about}\n\n{table}\n"
        "![student against teacher](student_teacher.png)\n"
    )


def _row(
    label: str, student: Result, teacher: Result, value: Callable[[Result], float], digits: int
) -> tuple[str, str, str, str]:
    ours, theirs = value(student), value(teacher)
    share = f"{ours / theirs:.3g}" if theirs else ""
    return label, f"{ours:.{digits}f}", f"{theirs:.{digits}f}", share


def draw(rows: Sequence[Take], path: Path) -> None:
    """Frames per second of both, clip by clip: latents alone, and decoded."""
    plots = []
    for title, seconds in (
        ("frames per second, latents alone", lambda r: r.latent_seconds),
        ("frames per second, decoded", lambda r: r.latent_seconds + r.decode_seconds),
    ):
        curves = [
            Curve(who, [r.clip for r in rows if r.who == who], [r.frames / seconds(r) for r in rows if r.who == who],
                  markers=True)
            for who in ("student", "teacher")
        ]  # fmt: skip
        plots.append(Plot(title, "clip", "", tuple(curves), log_y=True))
    draw_sheet(plots).save(path)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--student", type=Path, required=True, help="exported student")
    top.add_argument("--teacher", type=Path, required=True, help="folder of a finished teacher stage")
    top.add_argument("--codec", type=Path, required=True, help="exported codec")
    top.add_argument("--syncnet", type=Path, help="folder of a finished syncnet stage, for Sync-C")
    top.add_argument("--steps", type=int, default=50, help="of the teacher")
    top.add_argument("--audio-guidance", type=float, default=4.5, help="of the teacher")
    top.add_argument("--text-guidance", type=float, default=1.0, help="of the teacher")
    top.add_argument("--latents", type=int, default=21, help="of a clip, whole chunks")
    top.add_argument("--per-domain", type=int, default=2, help="clips of each domain")
    top.add_argument("--judge-clips", type=int, default=JUDGE_CLIPS, help="clips that the judges learn from")
    top.add_argument(
        "--runs", type=Path, default=Path("runs/experiments"), help="held-out clips, judges, takes"
    )
    top.add_argument("--out", type=Path, default=Path("benchmarks/results/student_teacher"), help="a folder")
    return top


def measure_pair(
    given: argparse.Namespace, mini: Mini, clips: list[Clip]
) -> tuple[list[Take], list[Result], str]:
    """Run both on all clips and judge what they made; the last is what the judges find in the drawn clips."""
    kept = given.runs / "student_teacher"
    sampling = TeacherSampling(
        steps=given.steps, text_guidance=given.text_guidance, audio_guidance=given.audio_guidance
    )
    guidance = Guidance(text=sampling.text_guidance, audio=sampling.audio_guidance)
    teacher = Teacher(read_network(given.teacher, NETWORK).eval().requires_grad_(False), guidance=guidance)
    takes = run_pair(mini, teacher, sampling, clips, latents=given.latents, kept=kept)
    judges = cached_judges(
        given.runs, mini.vae, clips=given.judge_clips, side=mini.profile.height, syncnet=given.syncnet
    )
    guided = f"audio {given.audio_guidance:g}, text {given.text_guidance:g}"
    results = []
    for who, steps, told in (
        ("student", mini.profile.steps, "none"),
        ("teacher", given.steps, guided),
    ):
        made = [np.load(kept / f"{who}_{index}.npy") for index in range(len(clips))]
        results.append(result(who, steps, told, takes, measure_clips(clips, made, judges)))
    return takes, results, bound_sentence(clips, judges)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line. Raises ValueError for a clip that is not whole chunks of the student."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    require_stages([given.teacher])
    mini = load_mini(given.student, given.codec)
    if given.latents % mini.profile.chunk:
        raise ValueError(f"--latents is {given.latents}; give whole chunks of {mini.profile.chunk}")
    about = {k: v for k, v in vars(given).items() if k not in ("runs", "out")}
    for folder in (given.runs / "student_teacher", given.out):
        claim_folder(folder, about)
    frames = 4 * given.latents - 3
    clips = held_out_clips(
        given.runs / "clips", per_domain=given.per_domain, frames=frames, side=mini.profile.height
    )
    takes, results, bound = measure_pair(given, mini, clips)
    write_records(given.out / "student_teacher.csv", Result, results)
    draw(takes, given.out / "student_teacher.png")
    command = command_of("student_teacher", arguments)
    page = report(*results, about=f"{len(clips)} held-out clips of {frames} frames. {bound}", command=command)
    (given.out / "student_teacher.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
