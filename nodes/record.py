"""Behind the write nodes: pull a stream to its end, into a file or into memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io, ui

from ..audio.rates import latents_for_frames, sample_at_frame
from ..media.frames import to_bytes
from ..media.muxer import VideoWriter
from .host import progress
from .host.growing_files import announced
from .host.paths import OutputFile, metadata_allowed, reserve_output
from .host.vae import to_vae_space
from .pull import Pull, pulling
from .stages import WRITE, stage, with_text
from .types import Frames

if TYPE_CHECKING:
    from comfy_api.latest._io import HiddenHolder


@dataclass(frozen=True)
class Recording:
    """A finished file, and how many frames are in it."""

    file: OutputFile
    frames: int


def record(frames: Frames, *, prefix: str, crf: float, hidden: HiddenHolder) -> Recording:
    """Writes the stream to a new numbered file. What was finished survives Stop and errors."""
    file = reserve_output(prefix, width=frames.width, height=frames.height)
    try:
        writer = open_writer(frames, file, crf=crf, metadata=file_metadata(hidden))
    except BaseException:
        file.path.unlink(missing_ok=True)
        raise
    try:
        with announced(writer.partial_path, hidden.extra_pnginfo):
            with pulling(frames, node_id=hidden.unique_id, prompt=hidden.prompt) as pull:
                write_all(pull, writer)
        writer.finish()
    except BaseException as error:
        partial = keep_partial(writer, file)
        if partial is not None and isinstance(error, Exception):
            raise with_text(error, f"{error}\nWhat was finished is in {partial}") from error
        raise
    progress.show_text(f"{writer.frames_written} frames, {writer.seconds:.2f} s")
    return Recording(file, writer.frames_written)


def open_writer(frames: Frames, file: OutputFile, *, crf: float, metadata: dict[str, str]) -> VideoWriter:
    """The file of a stream, with the voice as it came."""
    speech = frames.stream.speech
    return VideoWriter(
        file.path,
        width=frames.width,
        height=frames.height,
        fps=frames.fps,
        audio=(speech.samples_CS, speech.sample_rate),
        quality=round(crf),
        metadata=metadata,
    )


def write_all(pull: Pull, writer: VideoWriter) -> None:
    """Chunk after chunk into the file, with the node's bar and a line of text."""
    bar = progress.Bar(pull.node_id, pull.frames)
    for chunk in pull.chunks():
        with stage(WRITE, pull.node_id, chunk=chunk.index):
            writer.write(to_bytes(chunk.pictures_FHWC, low=0.0))
        bar.update(writer.frames_written)
        bar.text(pull.status(writer.frames_written))


def keep_partial(writer: VideoWriter, file: OutputFile) -> Path | None:
    """Completes what there is as ..._partial.mp4 and shows it on the node; None where nothing was written."""
    partial = writer.abort()
    file.path.unlink(missing_ok=True)
    if partial is not None:
        shown = ui.PreviewVideo([ui.SavedResult(partial.name, file.subfolder, io.FolderType.output)])
        progress.send_executed(shown.as_dict())
        progress.show_text(f"{writer.seconds:.2f} s finished, in {partial.name}")
    return partial


def file_metadata(hidden: HiddenHolder) -> dict[str, str]:
    """Workflow and prompt as core's Save Video embeds them; nothing where the user forbids it."""
    if not metadata_allowed():
        return {}
    parts = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        parts["prompt"] = hidden.prompt
    return {name: json.dumps(part) for name, part in parts.items()}


def collect(
    frames: Frames, *, start: int, limit: int, hidden: HiddenHolder
) -> tuple[torch.Tensor, dict[str, object], dict[str, torch.Tensor]]:
    """Frames [start, start + limit) as IMAGE, their sound as AUDIO, and the LATENT of the latents that hold them.

    Nothing before `start` is kept, and nothing after the last wanted chunk is made. Raises ValueError when the stream
    ends before `start`.
    """
    if start >= frames.frames:
        raise ValueError(f"got start {start}, but the stream has {frames.frames} frames: pick an earlier one")
    stop, done = min(frames.frames, start + limit), 0
    wanted = latents_of(frames, start=start, stop=stop)
    pictures_FHWC = torch.empty(stop - start, frames.height, frames.width, 3)
    latents = []
    with pulling(frames, node_id=hidden.unique_id, prompt=hidden.prompt) as pull:
        for chunk in pull.chunks():
            made_FHWC = chunk.pictures_FHWC[max(0, start - chunk.first_frame) : stop - chunk.first_frame]
            first = max(chunk.first_frame, start) - start
            pictures_FHWC[first : first + len(made_FHWC)] = made_FHWC
            before = chunk.index * chunk.latent_BCTHW.shape[2]
            inside = slice(max(0, wanted.start - before), max(0, wanted.stop - before))
            latents.append(chunk.latent_BCTHW[:, :, inside].cpu().clone())
            done = chunk.first_frame + len(chunk.pictures_FHWC)
            if done >= stop:
                break
    if done <= start:
        raise ValueError(
            f"the stream was finished after {done} frames, before start {start}: pick an earlier one"
        )
    stop = min(stop, done)
    samples = to_vae_space(torch.cat(latents, dim=2))
    return pictures_FHWC[: stop - start], sound_of(frames, start=start, stop=stop), {"samples": samples}


def latents_of(frames: Frames, *, start: int, stop: int) -> range:
    """The latents, counted from the stream's first, that hold the frames [start, stop)."""
    discarded = frames.stream.profile.discarded_first_frames
    return range(latents_for_frames(start + 1 + discarded) - 1, latents_for_frames(stop + discarded))


def sound_of(frames: Frames, *, start: int, stop: int) -> dict[str, object]:
    """The voice from the beginning of one frame to the beginning of another, as AUDIO."""
    speech, fps = frames.stream.speech, frames.fps
    first, last = (
        sample_at_frame(frame, speech.sample_rate, fps_num=fps.numerator, fps_den=fps.denominator)
        for frame in (start, stop)
    )
    return {"waveform": speech.samples_CS[None, :, first:last], "sample_rate": speech.sample_rate}
