"""Whether a long stream keeps its face, its colours and its lips: one stream, measured window by window.

Command: python -m talkstream.benchmarks.long_horizon [--student FILE] [--codec FILE] [--marks 20 100 1000]
         [--syncnet runs/syncnet/syncnet] [--out benchmarks/results/long_horizon]
The student streams as it does in the graph, with its bounded cache; frames are judged in windows of a few seconds and
then forgotten, so that memory does not grow with the stream (but for its sound, 64 kB a second). The state is saved as
it goes: started again, the command goes on. At each mark the means of what came before it stand in the table, and a
row of frames in the contact sheet.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..cli import MINI, MINI_VAE
from ..media.frames import channels_last, to_bytes
from ..model_loaders.build import open_student
from ..networks.causal_vae import denormalise_latents
from ..streaming.decoder import StreamingDecoder
from ..streaming.session import StreamSession
from ..training.measure import JUDGE_CLIPS, Judges, Subject, measure
from ..training.mouth_measures import best_lag_correlation
from ..training.picture_measures import colour_gap
from ..training.plots import Curve, Plot, draw_sheet
from ..training.sampling import load_codec_file
from ..training.world.clips import FPS, SAMPLE_RATE, dubbed_frames, random_clip, random_speech
from .held_out import HELD_OUT_SEED, SAMPLES_PER_FRAME, cached_judges
from .mini_run import Timing, load, machine, open_session
from .records import claim_folder, command_of, markdown_table, read_records, write_records

_STREAM_SEED = HELD_OUT_SEED + 9_000
_BEFORE_MARK = 20  # seconds before a mark that its row is the mean of
_BOUND_SECONDS = 10
_COLUMNS = 10  # frames of a row of the contact sheet
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Window:
    """Measures of the seconds first..last of the stream.

    identity, background: distances to the portrait; colour: Lab distance of the mean colour beside the head to the
    portrait's. r_open: None where the voice is silent. The rest as in training.measure.Measures.
    """

    first: float
    last: float
    r_open: float | None
    sync_c: float | None
    identity: float
    background: float
    colour: float
    sharpness: float
    mouth_outside: float
    blinks: float


LABELS = {
    "r_open": "true mouth: r", "sync_c": "Sync-C", "identity": "distance to the portrait's head",
    "background": "distance to the portrait's background", "colour": "Lab distance of still parts",
    "sharpness": "sharpness over the portrait's", "mouth_outside": "impossible mouths",
    "blinks": "blinks per minute",
}  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """What the stream says: samples (S,) at 16 kHz and the true mouth of every frame (F, 5)."""

    samples: np.ndarray
    mouth: np.ndarray


def speak(path: Path, seconds: int) -> Voice:
    """A held-out voice for so many seconds, spoken once: it is no two times the same to the millisecond."""
    if not path.exists():
        random = np.random.default_rng([_STREAM_SEED, 2])
        samples, mouth = random_speech(random, seconds * FPS, held_out=True)
        np.savez(path, samples=samples, mouth=mouth)
    with np.load(path) as kept:
        return Voice(kept["samples"], kept["mouth"])


def judge(frames: np.ndarray, first_frame: int, voice: Voice, portrait: np.ndarray, judges: Judges) -> Window:
    """Measures of a window of the stream (F, H, W, 3) uint8."""
    last = first_frame + len(frames)
    m = measure(
        [
            Subject(
                frames, voice.samples[SAMPLES_PER_FRAME * first_frame : SAMPLES_PER_FRAME * last],
                voice.mouth[first_frame:last], portrait=portrait, like=portrait[None],
            )
        ],
        judges,
    )  # fmt: skip
    speaks = voice.mouth[first_frame:last, 0].std() > 0
    return Window(
        first_frame / FPS, last / FPS, m.r_open if speaks else None, m.sync_c, m.identity, m.background,
        colour_gap(frames, portrait), m.sharpness, m.mouth_outside, m.blinks,
    )  # fmt: skip


class LongRun:
    """A stream under way: its session and decoder, frames of the unfinished window, rows so far; all in a folder."""

    def __init__(
        self, folder: Path, session: StreamSession, decoder: StreamingDecoder, *, window_frames: int
    ) -> None:
        """Goes on from the folder's last save, where there is one."""
        self._folder, self._session, self._decoder = folder, session, decoder
        self._window = window_frames
        self.windows: list[Window] = []
        self._pending: list[np.ndarray] = []
        if self._state.exists():
            self._restore()

    @property
    def _state(self) -> Path:
        return self._folder / "stream.pt"

    def _restore(self) -> None:
        # Our own file: the state of a session holds plain Python objects beside its tensors.
        state = torch.load(self._state, weights_only=False)
        self.windows = read_records(self._folder / "long_horizon.csv", Window)[: state["windows"]]
        self._pending = [state["pending"]]
        self._session.load_state_dict(state["session"])
        self._decoder.load_state_dict(state["decoder"])
        log.info("going on at second %.0f", len(self.windows) * self._window / FPS)

    def _save(self) -> None:
        write_records(self._folder / "long_horizon.csv", Window, self.windows)
        unfinished = self._state.with_suffix(".tmp")
        state = {
            "windows": len(self.windows), "pending": np.concatenate(self._pending),
            "session": self._session.state_dict(), "decoder": self._decoder.state_dict(),
        }  # fmt: skip
        torch.save(state, unfinished)
        unfinished.replace(self._state)

    def run(self, voice: Voice, portrait: np.ndarray, judges: Judges, *, save_every: int) -> None:
        """To the end, saving every so many windows; a last window that is not full counts where it has 2 s."""
        for frames in self._frames():
            self._pending.append(frames)
            while sum(map(len, self._pending)) >= self._window:
                self._judge(voice, portrait, judges)
                if len(self.windows) % save_every == 0:
                    self._save()
        if sum(map(len, self._pending)) >= 2 * FPS:
            self._judge(voice, portrait, judges)
        self._pending.append(np.zeros((0, *portrait.shape), np.uint8))
        self._save()

    def _frames(self) -> Iterator[np.ndarray]:
        """Frames (F, H, W, 3) uint8 of chunk after chunk."""
        for part in self._session.chunks():
            pictures = channels_last(self._decoder.decode(denormalise_latents(part.latent_BCTHW)))
            yield to_bytes(pictures[part.skip : part.skip + part.frames]).numpy()

    def _judge(self, voice: Voice, portrait: np.ndarray, judges: Judges) -> None:
        """Judge the next window's frames and forget them; ten of them go into the contact sheet's store."""
        frames = np.concatenate(self._pending)
        window, rest = frames[: self._window], frames[self._window :]
        row = judge(window, len(self.windows) * self._window, voice, portrait, judges)
        at = np.linspace(0, len(window) - 1, _COLUMNS).astype(int)
        (self._folder / "frames").mkdir(exist_ok=True)
        strip = Image.fromarray(np.concatenate(list(window[at]), axis=1))
        strip.save(self._folder / "frames" / f"{row.last:07.1f}.png")
        self.windows.append(row)
        self._pending = [rest]
        r = math.nan if row.r_open is None else row.r_open
        log.info("second %.0f: r %.3f, identity %.4f, colour %.2f", row.last, r, row.identity, row.colour)


def marked(windows: Sequence[Window], marks: Sequence[float]) -> dict[float, list[Window]]:
    """For each mark that the stream has reached, the windows of the 20 s before it, at least one."""
    found = {}
    for mark in marks:
        if windows and windows[-1].last + 1 >= mark:
            before = [w for w in windows if mark - _BEFORE_MARK <= w.first + 1e-6 and w.last <= mark + 1e-6]
            found[mark] = before or [min(windows, key=lambda w: abs(w.last - mark))]
    return found


def mean_of(windows: Sequence[Window], name: str) -> float | None:
    """Mean of a measure over the windows that have it; None where none has."""
    values = [value for window in windows if (value := getattr(window, name)) is not None]
    return float(np.mean(values)) if values else None


def draw(windows: Sequence[Window], path: Path) -> None:
    """A plot per measure over the stream."""
    plots = []
    for name, label in LABELS.items():
        found = [(w.last, value) for w in windows if (value := getattr(w, name)) is not None]
        if found:
            plots.append(Plot(label, "second", "", (Curve(label, *zip(*found, strict=True)),)))
    draw_sheet(plots).save(path)


def save_sheet(folder: Path, windows: dict[float, list[Window]]) -> None:
    """A row of frames for each mark: those of the last window before it."""
    strips = [Image.open(folder / "frames" / f"{found[-1].last:07.1f}.png") for found in windows.values()]
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)))
    for index, strip in enumerate(strips):
        sheet.paste(strip, (0, index * strips[0].height))
    sheet.save(folder / "long_horizon.jpg", quality=90)


def report(
    windows: Sequence[Window], marks: Sequence[float], *, student: str, bound: float, command: str
) -> str:
    """The page: a row per mark."""
    names = [name for name in LABELS if mean_of(windows, name) is not None]
    rows = [
        [f"{mark:g} s", f"{found[0].first:.0f}..{found[-1].last:.0f} s",
         *("" if (mean := mean_of(found, name)) is None else f"{mean:.3f}" for name in names)]
        for mark, found in marked(windows, marks).items()
    ]  # fmt: skip
    table = markdown_table(["at", "mean over", *(LABELS[name] for name in names)], rows)
    return (
        f"# Long horizon\n\n{machine()}.\n\nCommand: `{command}`. One stream of {student}, windows of "
        f"{windows[0].last - windows[0].first:g} s. On the drawn truth of its first seconds the reader finds r = "
        f"{bound:.3f}.\n\n{table}\n![measures](long_horizon.png)\n\n"
        "![frames, a row for each mark](long_horizon.jpg)\n"
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument(
        "--student", type=Path, default=MINI, help="an exported student with its own speech encoder"
    )
    top.add_argument("--codec", type=Path, default=MINI_VAE, help="an exported codec")
    top.add_argument("--syncnet", type=Path, help="folder of a finished syncnet stage, for Sync-C")
    top.add_argument(
        "--marks", type=int, nargs="+", default=[20, 100, 1000], help="seconds; the last ends the stream"
    )
    top.add_argument("--window-frames", type=int, default=125, help="judged at a time")
    top.add_argument("--save-every", type=int, default=4, help="windows")
    top.add_argument("--judge-clips", type=int, default=JUDGE_CLIPS, help="clips that the judges learn from")
    top.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="of student and decoder"
    )
    top.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="judges")
    top.add_argument("--out", type=Path, default=Path("benchmarks/results/long_horizon"), help="a folder")
    return top


def measure_stream(given: argparse.Namespace) -> tuple[list[Window], float]:
    """Stream to the last mark, or from the last save on; the last is what the reader finds in drawn pictures."""
    dtype, seconds = getattr(torch, given.dtype), max(given.marks)
    codec = load_codec_file(given.codec)
    side = open_student(given.student).profile.height
    portrait = random_clip(_STREAM_SEED, 5, side=side, held_out=True, motion="spoken").frames[0]
    picture = torch.from_numpy(portrait).float()[None] / 255
    loaded = load(dtype=dtype, student_file=given.student, vae_file=given.codec, portrait=picture)
    judges = cached_judges(given.runs, codec, clips=given.judge_clips, side=side, syncnet=given.syncnet)
    voice = speak(given.out / "voice.npz", seconds)
    session = open_session(loaded, torch.from_numpy(voice.samples)[None], SAMPLE_RATE, Timing())
    run = LongRun(given.out, session, StreamingDecoder(loaded.vae), window_frames=given.window_frames)
    with session:
        run.run(voice, portrait, judges, save_every=given.save_every)
    return run.windows, reading_bound(voice, judges, side=side)


def reading_bound(voice: Voice, judges: Judges, *, side: int) -> float:
    """Correlation that the reader finds on the drawn truth of the stream's first seconds: none can show more."""
    count = min(len(voice.mouth), _BOUND_SECONDS * FPS)
    clip = random_clip(_STREAM_SEED, count, side=side, held_out=True, motion="spoken")
    mouth = voice.mouth[:count]
    drawn = dubbed_frames(_STREAM_SEED, clip.pose, mouth, side=side, held_out=True)
    return best_lag_correlation([judges.reader.read(drawn)[:, 0]], [mouth[:, 0]])[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    claim_folder(given.out, {k: v for k, v in vars(given).items() if k not in ("runs", "out", "save_every")})
    windows, bound = measure_stream(given)
    draw(windows, given.out / "long_horizon.png")
    save_sheet(given.out, marked(windows, given.marks))
    command = command_of("long_horizon", arguments)
    page = report(windows, given.marks, student=given.student.stem, bound=bound, command=command)
    (given.out / "long_horizon.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
