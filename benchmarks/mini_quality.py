"""Quality of TalkStream Mini on portraits, sentences and voices that its training never met.

Command: python -m talkstream.benchmarks.mini_quality [--out results.md] [--speech human.wav ...]
"""

from __future__ import annotations

import argparse
import datetime
import platform
from dataclasses import dataclass, field
from pathlib import Path

import librosa
import numpy as np
import torch
from PIL import Image

from ..training.measure import JUDGE_CLIPS, Measures, Subject, measure, reconstruct
from ..training.mini import MEL
from ..training.mouth_measures import amplitude, best_lag_correlation, blinks_per_minute
from ..training.picture_measures import background_gaps, identity_gaps, psnr_of
from ..training.reader import FaceReader
from ..training.sampling import Mini, load_mini, sample_frames
from ..training.speech import SpeechSettings, make_bank, mean_correlation
from ..training.world.clips import FPS, SAMPLE_RATE, identity_of, random_clip, random_speech
from ..training.world.portrait import REST, Portrait
from ..training.world.pose import POSE_NAMES, Pose
from .held_out import cached_judges

_ASSETS = Path(__file__).parents[1] / "assets"
_HELD_OUT_SEED = 90_000


@dataclass
class Report:
    """Rows of the table: measure, value, target."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, measure: str, value: float | str, target: str = "") -> None:
        shown = value if isinstance(value, str) else f"{value:.3f}"
        self.rows.append((measure, shown, target))
        print(f"{measure:<58} {shown:>10}  {target}", flush=True)

    def markdown(self) -> str:
        lines = ["| measure | value | target |", "|---|---|---|"]
        return "\n".join(lines + [f"| {a} | {b} | {c} |" for a, b, c in self.rows]) + "\n"


@dataclass(frozen=True)
class Case:
    """A held-out clip and what the Mini makes of its portrait and speech. eyes: how far open they truly are (F,)."""

    truth: np.ndarray
    mouth: np.ndarray
    eyes: np.ndarray
    samples: np.ndarray
    reconstructed: np.ndarray
    generated: np.ndarray


def make_cases(mini: Mini, *, count: int, frames: int, side: int) -> list[Case]:
    """Held-out clips; the portrait that the Mini is given is their first frame."""
    cases = []
    for index in range(count):
        clip = random_clip(_HELD_OUT_SEED + index, frames, side=side, held_out=True, motion="spoken")
        generated = sample_frames(
            mini, clip.samples.astype(np.float32), clip.frames[0], frames=frames, seed=index
        )
        cases.append(
            Case(
                clip.frames,
                clip.mouth,
                clip.pose[:, POSE_NAMES.index("eyes_open")],
                clip.samples,
                reconstruct(mini.vae, clip.frames),
                generated,
            )  # fmt: skip
        )
    return cases


def report_codec(report: Report, cases: list[Case]) -> None:
    """PSNR of the codec alone: mean over clips of each clip's."""
    values = [psnr_of(c.reconstructed, c.truth) for c in cases]
    report.add("codec PSNR, dB", float(np.mean(values)), ">= 28")


def report_sync(report: Report, cases: list[Case], reader: FaceReader) -> None:
    """Correlations and amplitudes of the mouth opening read from pixels."""
    truth = [c.mouth for c in cases]
    read = {
        name: [reader.read(getattr(c, name)) for c in cases]
        for name in ("truth", "reconstructed", "generated")
    }
    for column, label in enumerate(("open", "width", "round")):
        wanted = [t[:, column] for t in truth]
        raw, codec, student = (
            best_lag_correlation([r[:, column] for r in read[name]], wanted)
            for name in ("truth", "reconstructed", "generated")
        )
        first = column == 0
        report.add(f"{label}: r of the reader on raw pixels (ceiling)", raw[0])
        report.add(f"{label}: r of the codec alone", codec[0])
        report.add(
            f"{label}: r of the student, best lag {student[1]:+d}", student[0], ">= 0.75" if first else ""
        )
        if first:
            report.add("open: student over codec", student[0] / codec[0], ">= 0.92")
            report.add("open: amplitude of the student", amplitude([r[:, 0] for r in read["generated"]], wanted),
                       "0.8..1.2")  # fmt: skip
            report.add(
                "open: amplitude of the codec", amplitude([r[:, 0] for r in read["reconstructed"]], wanted)
            )
            others = wanted[1:] + wanted[:1]
            wrong = best_lag_correlation([r[:, 0] for r in read["generated"]], others)[0]
            report.add("open: r against another clip's truth", wrong, "< 0.2")


def subjects_of(cases: list[Case], name: str) -> list[Subject]:
    """A field of the cases as clips to be judged; only what the codec made has its truth's head."""
    return [
        Subject(
            getattr(c, name), c.samples, c.mouth, portrait=c.truth[0], like=c.reconstructed,
            truth=None if name == "generated" else c.truth,
        )
        for c in cases
    ]  # fmt: skip


def report_measures(report: Report, judged: dict[str, Measures]) -> None:
    """What the sync correlations leave out, for each kind of clip side by side."""
    labels = {
        "sync_c": "Sync-C", "sync_d": "Sync-D", "offset_frames": "offset, frames", "r_teeth": "visible teeth: r",
        "mouth_outside": "share of mouths that speech cannot make", "blinks": "blinks per minute",
        "sharpness": "sharpness over the codec's", "identity": "distance to the portrait's head",
        "background": "distance to the portrait's background",
    }  # fmt: skip
    for field_name, label in labels.items():
        for who, measures in judged.items():
            value = getattr(measures, field_name)
            if value is not None:
                report.add(f"{label}: {who}", value)


def report_silence(report: Report, mini: Mini, reader: FaceReader, *, side: int) -> None:
    """Opening of the mouth in digital silence and in faint noise, over three portraits."""
    random = np.random.default_rng(5)
    for label, level in (("silence", 0.0), ("noise at -50 dB", 10 ** (-50 / 20))):
        openings = []
        for index in range(3):
            portrait = _portrait(_HELD_OUT_SEED + index, side)
            samples = (level * random.standard_normal(6 * SAMPLE_RATE)).astype(np.float32)
            openings.append(reader.read(sample_frames(mini, samples, portrait, frames=150))[:, 0])
        opening = np.concatenate(openings)
        report.add(f"mouth in {label}: mean opening", float(opening.mean()))
        report.add(f"mouth in {label}: amplitude (deviation)", float(opening.std()), "< 0.15")
        report.add(f"mouth in {label}: 95th percentile", float(np.percentile(opening, 95)), "< 0.15")


def report_drift(report: Report, mini: Mini, reader: FaceReader, *, seconds: int, side: int) -> None:
    """Distance of background and head to the portrait, and sync, along one long stream."""
    random = np.random.default_rng([_HELD_OUT_SEED, 1])
    frames = seconds * FPS
    samples, mouth = random_speech(random, frames, held_out=True)
    portrait = _portrait(_HELD_OUT_SEED, side)
    video = sample_frames(mini, samples, portrait, frames=frames)
    gaps = {"background": background_gaps(video, portrait), "identity": identity_gaps(video, portrait)}
    for name, gap in gaps.items():
        second = gap[: frames // FPS * FPS].reshape(-1, FPS).mean(axis=1)
        slope = np.polyfit(np.arange(2, len(second)), second[2:], 1)[0] * 60
        report.add(f"{name}: mean distance to the portrait, second 2 to 5", float(second[2:5].mean()))
        report.add(f"{name}: the same, last 5 seconds", float(second[-5:].mean()))
        report.add(f"{name}: slope per minute, second 2 to {seconds}", f"{slope:+.4f}", "about 0")
    read = reader.read(video)[:, 0]
    parts = np.array_split(np.arange(frames), 4)
    values = [best_lag_correlation([read[p]], [mouth[p, 0]])[0] for p in parts]
    report.add(f"open: r in quarters of {seconds} s", " ".join(f"{v:.2f}" for v in values))


def report_ceiling(report: Report, mini: Mini, *, clips: int) -> None:
    """A linear reading of the mouth from the student's own speech features: fitted on training voices."""
    settings = SpeechSettings(clips=clips, versions=1, held_out_clips=-(-clips // 5))
    features, mouths = [], []
    for held_out in (False, True):
        bank = make_bank(settings, MEL, held_out=held_out)
        with torch.no_grad():
            encoded = mini.student.encoder(torch.from_numpy(bank.mel).float()).numpy()
        features.append(np.concatenate([encoded, np.ones_like(encoded[..., :1])], axis=-1))
        mouths.append(bank.mouth[..., 0])
    weights = np.linalg.lstsq(features[0].reshape(-1, features[0].shape[-1]), mouths[0].ravel(), rcond=None)[
        0
    ]
    report.add(
        "open: r of a linear regressor on the speech features",
        mean_correlation(features[1] @ weights, mouths[1]),
    )


def report_recording(report: Report, mini: Mini, reader: FaceReader, path: Path, *, side: int) -> None:
    """A recording without known mouths: does the opening follow the loudness, and close in its pauses?"""
    samples, _ = librosa.load(path, sr=SAMPLE_RATE, mono=True, duration=12.0)
    frames = len(samples) * FPS // SAMPLE_RATE
    hop = SAMPLE_RATE // FPS
    loud = np.sqrt((samples[: frames * hop].reshape(frames, hop) ** 2).mean(axis=1))
    decibels = 20 * np.log10(loud / loud.max() + 1e-5)
    opening = reader.read(sample_frames(mini, samples, _portrait(_HELD_OUT_SEED, side), frames=frames))[:, 0]
    calm = np.array([decibels[max(0, i - 3) : i + 4].max() < -30 for i in range(frames)])
    smooth = np.convolve(
        np.maximum(decibels, -40), np.hanning(7)[1:-1] / np.hanning(7)[1:-1].sum(), mode="same"
    )
    report.add(f"{path.name}: r of opening and loudness", best_lag_correlation([opening], [smooth])[0])
    report.add(f"{path.name}: mean opening in speech", float(opening[decibels > -20].mean()))
    paused = f"{opening[calm].mean():.3f}" if calm.sum() >= 5 else "no pauses"
    report.add(f"{path.name}: mean opening in pauses ({int(calm.sum())} frames)", paused)


def _portrait(seed: int, side: int) -> np.ndarray:
    return Portrait(identity_of(seed, held_out=True), side=side).draw(Pose(), REST)


def save_sheet(path: Path, cases: list[Case], *, columns: int = 10) -> None:
    """Contact sheet: per clip a row of truth, of the codec, of the student."""
    rows = []
    for case in cases[:4]:
        at = np.linspace(12, len(case.generated) - 1, columns).astype(int)
        rows += [
            np.concatenate(list(video[at]), axis=1)
            for video in (case.truth, case.reconstructed, case.generated)
        ]
    sheet = Image.fromarray(np.concatenate(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.LANCZOS).save(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure TalkStream Mini on held-out data.")
    parser.add_argument(
        "--student", type=Path, default=_ASSETS / "diffusion_models" / "talkstream_mini.safetensors"
    )
    parser.add_argument("--codec", type=Path, default=_ASSETS / "vae" / "talkstream_mini_vae.safetensors")
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=60, help="length of the drift test")
    parser.add_argument(
        "--ceiling-clips",
        type=int,
        default=150,
        help="spoken to see what the speech features tell; 0 for none",
    )
    parser.add_argument("--speech", type=Path, nargs="*", default=[], help="recordings of people")
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
    cases = make_cases(mini, count=given.cases, frames=125, side=side)
    report_codec(report, cases)
    report_sync(report, cases, reader)
    kinds = {"drawn": "truth", "codec alone": "reconstructed", "student": "generated"}
    report_measures(report, {who: measure(subjects_of(cases, n), judges) for who, n in kinds.items()})
    true_blinks = float(np.mean([blinks_per_minute(case.eyes) for case in cases]))
    report.add("blinks per minute: in truth", true_blinks)
    if given.ceiling_clips:
        report_ceiling(report, mini, clips=given.ceiling_clips)
    report_silence(report, mini, reader, side=side)
    report_drift(report, mini, reader, seconds=given.seconds, side=side)
    for path in given.speech:
        report_recording(report, mini, reader, path, side=side)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        about = f"{datetime.date.today()}, {platform.processor() or platform.machine()}, torch {torch.__version__}"
        steps = len(mini.profile.sigmas) - 1
        what = f"{given.cases} held-out clips of 5 s, {steps} steps, bf16"
        head = f"# TalkStream Mini: quality\n\n{about}; {what}.\n\n"
        given.out.write_text(head + report.markdown(), encoding="utf-8")
        save_sheet(given.out.with_suffix(".jpg"), cases)


if __name__ == "__main__":
    main()
