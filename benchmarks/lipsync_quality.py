"""Quality of TalkStream Mini lip sync: held-out videos that speak are given another held-out voice.

Command: python -m talkstream.benchmarks.lipsync_quality [--out results.md]

The truth is drawn: the same face, head and eyes with the mouth of the new voice.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..streaming.mouth_mask import MouthMask
from ..training.measure import JUDGE_CLIPS, Subject, measure, reconstruct
from ..training.mouth_measures import amplitude, best_lag_correlation
from ..training.picture_measures import psnr_of
from ..training.reader import FaceReader
from ..training.sampling import Mini, dub_frames, load_mini
from ..training.world.clips import FPS, SAMPLE_RATE, dubbed_frames, random_clip
from .held_out import cached_judges
from .mini_quality import Report, report_measures

_ASSETS = Path(__file__).parents[1] / "assets"
_HELD_OUT_SEED = 95_000
_EYES = (slice(0.39, 0.52), slice(0.25, 0.75))  # rows and columns of the drawn world's eyes, as shares


@dataclass(frozen=True)
class Dub:
    """A held-out video, the mouth it had, and the same with a new voice: as it is drawn, as the codec shows that, as
    the student makes it, and its picture put into the video. samples: the new voice. place: of the mouth, in all four.
    """

    samples: np.ndarray
    place: np.ndarray
    source: np.ndarray
    old_mouth: np.ndarray
    truth: np.ndarray
    mouth: np.ndarray
    reconstructed: np.ndarray
    generated: np.ndarray
    pasted: np.ndarray


def paste(generated: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The mouth's region of one video over another, (F, H, W, 3) uint8; every other pixel is the second's."""
    share = MouthMask.drawn().soft(*source.shape[1:3]).numpy()[..., None]
    return (share * generated + (1 - share) * source).round().astype(np.uint8)


def make_dubs(mini: Mini, *, count: int, frames: int, side: int) -> list[Dub]:
    """Held-out clips, each with the voice of the one after it."""
    seeds = range(_HELD_OUT_SEED, _HELD_OUT_SEED + count)
    clips = [random_clip(seed, frames, side=side, held_out=True, motion="spoken") for seed in seeds]
    dubs = []
    for index, (seed, clip) in enumerate(zip(seeds, clips, strict=True)):
        voice = clips[(index + 1) % count]
        truth = dubbed_frames(seed, clip.pose, voice.mouth, side=side, held_out=True)
        generated = dub_frames(mini, voice.samples.astype(np.float32), clip.frames, seed=index)
        dubs.append(Dub(voice.samples, clip.place, clip.frames, clip.mouth, truth, voice.mouth,
                        reconstruct(mini.vae, truth), generated, paste(generated, clip.frames)))  # fmt: skip
    return dubs


def report_sync(report: Report, dubs: list[Dub], reader: FaceReader) -> None:
    """How the mouth, as read from the pixels, follows the new voice, and how little the old one."""
    names = ("truth", "reconstructed", "pasted")
    read = {name: [reader.read(getattr(dub, name), dub.place) for dub in dubs] for name in names}
    for column, label in enumerate(("open", "width", "round")):
        wanted = [dub.mouth[:, column] for dub in dubs]
        raw, codec, student = (
            best_lag_correlation([r[:, column] for r in read[name]], wanted) for name in names
        )
        bound = (">= 0.75", ">= 0.92") if column == 0 else ("", "")
        report.add(f"{label}: r of the reader on raw pixels (ceiling)", raw[0])
        report.add(f"{label}: r of the codec alone", codec[0])
        report.add(f"{label}: r of the student, best lag {student[1]:+d}", student[0], bound[0])
        report.add(f"{label}: student over codec", student[0] / codec[0], bound[1])
    opening = {name: [r[:, 0] for r in values] for name, values in read.items()}
    new, old = [dub.mouth[:, 0] for dub in dubs], [dub.old_mouth[:, 0] for dub in dubs]
    report.add("open: r with the video's old mouth", best_lag_correlation(opening["pasted"], old)[0], "< 0.2")
    report.add("open: the same, of the drawn truth", best_lag_correlation(opening["truth"], old)[0])
    report.add("open: amplitude of the student", amplitude(opening["pasted"], new), "0.8..1.2")
    report.add("open: amplitude of the codec", amplitude(opening["reconstructed"], new))


def subjects_of(dubs: list[Dub], name: str) -> list[Subject]:
    """A field of the dubs as clips to be judged."""
    return [
        Subject(
            getattr(d, name), d.samples, d.mouth, portrait=d.truth[0], like=d.reconstructed, truth=d.truth,
            place=d.place,
        )
        for d in dubs
    ]  # fmt: skip


def report_pictures(report: Report, dubs: list[Dub]) -> None:
    """PSNR of the student's own picture, before it is put into the video, beside that of the codec alone."""
    side = dubs[0].source.shape[1]
    mouth = MouthMask.drawn().pixels(side, side).numpy()
    eyes = np.zeros_like(mouth)
    eyes[tuple(slice(int(s.start * side), int(s.stop * side)) for s in _EYES)] = True
    regions = {"outside the mask": ~mouth, "inside the mask": mouth, "around the eyes": eyes}
    for label, region in regions.items():
        for name in ("generated", "reconstructed"):
            values = [psnr_of(getattr(dub, name)[:, region], dub.truth[:, region]) for dub in dubs]
            who = "student" if name == "generated" else "codec alone"
            report.add(f"{label}: PSNR of the {who}, dB", float(np.mean(values)))
    kept = MouthMask.drawn().soft(side, side).numpy() == 0
    gaps = [np.abs(d.pasted[:, kept].astype(int) - d.source[:, kept]).max() for d in dubs]
    report.add("outside the mask's soft edge: largest difference once pasted", float(max(gaps)), "0")


def report_silence(report: Report, mini: Mini, reader: FaceReader, dubs: list[Dub]) -> None:
    """Opening of the mouth where a video that speaks is given silence, or faint noise."""
    random = np.random.default_rng(5)
    for label, level in (("silence", 0.0), ("noise at -50 dB", 10 ** (-50 / 20))):
        openings = []
        for dub in dubs[:3]:
            count = len(dub.source) * SAMPLE_RATE // FPS
            samples = (level * random.standard_normal(count)).astype(np.float32)
            pasted = paste(dub_frames(mini, samples, dub.source), dub.source)
            openings.append(reader.read(pasted, dub.place)[:, 0])
        opening = np.concatenate(openings)
        report.add(f"mouth in {label}: mean opening", float(opening.mean()))
        report.add(f"mouth in {label}: amplitude (deviation)", float(opening.std()), "< 0.15")


def save_sheet(path: Path, dubs: list[Dub], *, columns: int = 10) -> None:
    """Contact sheet: per clip a row of the video, of the truth, of the codec, of the student's paste."""
    rows = []
    for dub in dubs[:4]:
        at = np.linspace(12, len(dub.source) - 1, columns).astype(int)
        videos = (dub.source, dub.truth, dub.reconstructed, dub.pasted)
        rows += [np.concatenate(list(video[at]), axis=1) for video in videos]
    sheet = Image.fromarray(np.concatenate(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.LANCZOS).save(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure TalkStream Mini lip sync on held-out data.")
    student = _ASSETS / "diffusion_models" / "talkstream_mini_lipsync.safetensors"
    parser.add_argument("--student", type=Path, default=student)
    parser.add_argument("--codec", type=Path, default=_ASSETS / "vae" / "talkstream_mini_vae.safetensors")
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument(
        "--syncnet", type=Path, help="folder of a finished syncnet stage, for Sync-C and Sync-D"
    )
    parser.add_argument(
        "--judge-clips", type=int, default=JUDGE_CLIPS, help="clips that the judges learn from"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="judges")
    parser.add_argument("--out", type=Path, help="markdown file; a contact sheet is saved beside it")
    given = parser.parse_args()
    mini = load_mini(given.student, given.codec)
    side, report = mini.profile.height, Report()
    judges = cached_judges(given.runs, mini.vae, clips=given.judge_clips, side=side, syncnet=given.syncnet)
    reader = judges.reader
    dubs = make_dubs(mini, count=given.cases, frames=125, side=side)
    report_sync(report, dubs, reader)
    kinds = {"drawn": "truth", "codec alone": "reconstructed", "student": "pasted"}
    report_measures(report, {who: measure(subjects_of(dubs, name), judges) for who, name in kinds.items()})
    report_pictures(report, dubs)
    report_silence(report, mini, reader, dubs)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        about = f"{datetime.date.today()}, {platform.processor() or platform.machine()}, torch {torch.__version__}"
        steps = len(mini.profile.sigmas) - 1
        what = f"{given.cases} held-out videos of 5 s with another held-out voice, {steps} steps, bf16"
        head = f"# TalkStream Mini lip sync: quality\n\n{about}; {what}.\n\n"
        given.out.write_text(head + report.markdown(), encoding="utf-8")
        save_sheet(given.out.with_suffix(".jpg"), dubs)


if __name__ == "__main__":
    main()
